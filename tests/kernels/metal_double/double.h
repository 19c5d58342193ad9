// What the double's core and its variants share.
#pragma once
#include <cstddef>
#include <cstdint>

using Error = int32_t;
using Handle = void*;

namespace metal_double {

// Binds an argument struct of more than 8 bytes, which set_arg_int cannot carry, and at most 4096, as Metal's
// setBytes. by: the name of the call, for the log.
Error bind_struct(Handle function, unsigned index, const void* bytes, size_t size, const char* by);
const char* what();

}  // namespace metal_double

#define EXPORT extern "C" __attribute__((visibility("default")))
