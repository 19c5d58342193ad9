// What Python hands to a launch, as a Launch: tensors are asked for their memory here, in C++, where a question
// costs a tenth of what it costs in Python. Nothing of torch is linked; a tensor is asked by name.
#pragma once
#include <pybind11/pybind11.h>

#include <array>

#include "launch.h"

namespace nerf_metal {

// The property of a tensor that must be true for a backend to read its memory.
enum class Memory { cpu, mps };

// buffers: for each buffer of the kernel a torch.Tensor, None, or a tuple (address, elements, DType) for memory
// that is no tensor's. params: the argument struct as bytes, or a dict with every member of it. Checked as
// launch.h's check() says. Throws std::invalid_argument, and TypeError for what is no tensor.
Launch make_launch(const std::string& name, const pybind11::sequence& buffers, const pybind11::object& params,
                   const std::array<uint32_t, 3>& grid, const std::array<uint32_t, 3>& group, Memory memory);

}  // namespace nerf_metal
