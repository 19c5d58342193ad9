"""The style sheet of ``report.html``: light, dark and on paper; no font and no file from elsewhere."""

STYLE = """\
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1b1f24; --soft: #5b6470; --line: #dfe3e8;
  --good: #00734f; --unfinished: #8a5a00; --failed: #b23c00; --unknown: #4a5562; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2126; --text: #e6e9ec; --soft: #9aa4b0;
  --line: #333a42; --good: #2fbf90; --unfinished: #e6a82e; --failed: #ff8a4c; --unknown: #aab4bf; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
header, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.25rem;
  margin: 0 0 1rem; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; } h3 { font-size: .85rem; margin: .9rem 0 .3rem; color: var(--soft); }
.what { margin: 0 0 .4rem; color: var(--soft); }
.verdict { font-size: 1.3rem; line-height: 1.35; font-weight: 600; margin: 0; padding-left: .8rem;
  border-left: 5px solid var(--unknown); }
.verdict.good { border-color: var(--good); } .verdict.unfinished { border-color: var(--unfinished); }
.verdict.failed { border-color: var(--failed); }
dl { margin: 0; } dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin-top: 1rem; }
.tiles b { font-size: 1.25rem; font-variant-numeric: tabular-nums; display: block; }
.tiles small { color: var(--soft); }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .35rem 1rem; }
.pairs dd { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
ul, ol { margin: 0; padding-left: 1.3rem; } li { margin: .2rem 0; }
.causes > li { margin-bottom: .8rem; } .causes ul { color: var(--soft); }
.tag { font-size: .75rem; padding: .05rem .5rem; border: 1px solid currentColor; border-radius: 99px;
  white-space: nowrap; color: var(--unknown); }
.tag.shown { color: var(--failed); } .tag.likely { color: var(--unfinished); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: .8rem; } .n { text-align: right; }
tr.collapse td { color: var(--failed); } tr.recovered td, tr.improving td { color: var(--good); }
figure { margin: 0 0 .8rem; } figcaption { color: var(--soft); font-size: .8rem; }
img { max-width: 100%; height: auto; border-radius: 6px; background: #fff; display: block; }
.renders { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .8rem; }
.renders img { max-height: 34rem; }
@media print { body { background: #fff; font-size: 11px; } main { max-width: none; padding: 0; }
  header, section { border: 0; padding: .3rem 0; margin: 0; } figure, tr, .causes > li { break-inside: avoid; }
  h2 { break-after: avoid; } }
"""
