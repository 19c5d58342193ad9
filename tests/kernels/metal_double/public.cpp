// The names that torch has from 2.14 on: argument structs and tensors through public C functions, and error texts.
// The handles made and freed are counted, so that a test can tell when one is lost.
#include <Python.h>

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "double.h"

namespace {

// A process that ends with handles alive has lost memory of the GPU: it ends with a code of its own.
struct Counter {
    std::atomic<long> live{0};
    ~Counter()
    {
        if (live != 0) {
            std::fprintf(stderr, "double: %ld tensor handles were never freed\n", live.load());
            _exit(70);  // EX_SOFTWARE
        }
    }
} handles;

}  // namespace

EXPORT long double_live_handles()
{
    return handles.live.load();
}

EXPORT Error torch_mps_set_arg_bytes(Handle function, unsigned index, const void* bytes, size_t size)
{
    return metal_double::bind_struct(function, index, bytes, size, "set_arg_bytes");
}

EXPORT const char* torch_exception_get_what()
{
    return metal_double::what();
}

EXPORT Error torch_tensor_from_pyobject(void* object, Handle* tensor)
{
    PyObject* torch = PyImport_ImportModule("torch._C._aoti");
    PyObject* capsule =
        PyObject_CallMethod(torch, "unsafe_alloc_void_ptr_from_tensor", "O", static_cast<PyObject*>(object));
    Py_DECREF(torch);
    if (capsule == nullptr) {
        PyErr_Clear();
        return 1;
    }
    *tensor = PyCapsule_GetPointer(capsule, nullptr);
    Py_DECREF(capsule);
    ++handles.live;
    return 0;
}

EXPORT Error aoti_torch_delete_tensor_object(Handle tensor)
{
    using Delete = Error (*)(Handle);
    static const Delete next = [] {
        void* symbol = dlsym(RTLD_NEXT, "aoti_torch_delete_tensor_object");
        Delete function = nullptr;
        std::memcpy(&function, &symbol, sizeof(function));
        return function;
    }();
    --handles.live;
    return next(tensor);
}
