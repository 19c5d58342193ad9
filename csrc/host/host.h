// The host backend: the shaders as plain loops over the grid, on threads.
#pragma once
#include <string>
#include <vector>

#include "launcher/launch.h"

namespace nerf_metal::host {

// Names of the compiled instruction sets that this processor can run, best last.
std::vector<std::string> usable_isas();

// The instruction set in use. Chosen on first use: the best usable one, or NERF_METAL_HOST_ISA. Throws
// std::invalid_argument where that names none of the usable ones.
const std::string& isa();

// Runs a checked launch of a kernel without collectives. Throws std::invalid_argument for others.
void run(const Launch& launch, unsigned threads);

}  // namespace nerf_metal::host
