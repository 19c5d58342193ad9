"""The colours of all plots (Okabe and Ito 2008). Colour-blind readers can tell them apart."""

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
