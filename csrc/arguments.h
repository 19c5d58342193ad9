// What Python hands to a launch, as a Launch: tensors are asked for their memory here, in C++, where a question
// costs a tenth of what it costs in Python. Nothing of torch is linked; a tensor is asked by name.
#pragma once
#include <pybind11/pybind11.h>

#include <array>

#include "launch.h"

namespace nerf_metal {

// The property of a tensor that must be true for a backend to read its memory.
enum class Memory { cpu, mps };

// A list as a tuple, anything else as it is: Python that runs while its items are asked cannot change that.
pybind11::object fixed(pybind11::handle buffers);

// kernel: its name. buffers: a list or tuple, for each buffer of the kernel a torch.Tensor, None, or a tuple
// (address, elements, DType) for memory that is no tensor's. params: the argument struct as bytes, or a dict with
// every member of it. grid, group: tuples of one to three counts. Checked as launch.h's check() says. Throws
// std::invalid_argument, and TypeError for what is of the wrong type; one line each.
Launch make_launch(pybind11::handle kernel, pybind11::handle buffers, pybind11::handle params,
                   pybind11::handle grid, pybind11::handle group, Memory memory);

}  // namespace nerf_metal
