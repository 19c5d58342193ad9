// What Python hands to a launch, as a Launch.
#pragma once
#include <pybind11/pybind11.h>

#include "launcher/launch.h"
#include "launcher/tensors.h"

namespace nerf_metal {

// A list as a tuple, anything else as it is: Python that runs while its items are asked cannot change that.
pybind11::object as_tuple(pybind11::handle buffers);

// kernel: its name. buffers: a tuple, for each buffer of the kernel what tensors.h takes; the caller owns it as
// long as the launch runs. params: the argument struct as bytes, or a dict with every member of it. grid, group:
// tuples of one to three counts. Checked as launch.h's check() says. Throws std::invalid_argument, and TypeError
// for what is of the wrong type; one line each.
Launch make_launch(pybind11::handle kernel, pybind11::handle buffers, pybind11::handle params,
                   pybind11::handle grid, pybind11::handle group, Memory memory);

}  // namespace nerf_metal
