// Words of a refused launch.
#pragma once
#include <pybind11/pybind11.h>

#include <string>

#include "launcher/launch.h"

namespace nerf_metal {

// "[kernel] ".
std::string prefix(const Launch& launch);

// Python's text of an object, cut to a part of a line; its type's name where it has none.
std::string shown(pybind11::handle object);

std::string type_name(pybind11::handle object);

// A refusal is of the caller's objects; KeyboardInterrupt and the like, raised while one was asked, are not and
// pass.
void clear_error();

}  // namespace nerf_metal
