// Torch's tensors as the launcher takes them. They are asked for their memory here, in C++, where a question costs
// a tenth of what it costs in Python. Nothing of torch is linked; a tensor is asked by name.
#pragma once
#include <pybind11/pybind11.h>

#include "launcher/launch.h"

namespace nerf_metal {

// The property of a tensor that must be true for a backend to read its memory.
enum class Memory { cpu, mps };

// buffer: a torch.Tensor, None, or a tuple (address, elements, DType) for memory that is no tensor's. Throws
// std::invalid_argument, and TypeError for what is of the wrong type; one line each, which name the kernel and the
// buffer.
Argument argument_of(const Launch& launch, const char* name, pybind11::handle buffer, Memory memory);

}  // namespace nerf_metal
