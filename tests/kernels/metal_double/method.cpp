// The names that torch 2.10 to 2.13 have on macOS: no public function binds an argument struct, but the method
// behind set_arg_int is exported; and without error texts, which came in 2.13.
#include "double.h"

// at::native::mps::MetalKernelFunction::setArg(unsigned, void const*, unsigned long long); this is the handle
EXPORT void _ZN2at6native3mps19MetalKernelFunction6setArgEjPKvy(Handle function, unsigned index, const void* bytes,
                                                                unsigned long long size)
{
    metal_double::bind_struct(function, index, bytes, size, "setArg");
}
