// The names that torch has from 2.14 on: argument structs and tensors through public C functions, and error texts.
// The handles made and freed are counted, so that a test can tell when one is lost.
#include <Python.h>

#include <dlfcn.h>

#include <atomic>
#include <cstring>

#include "double.h"

namespace {

std::atomic<long> live{0};

}  // namespace

EXPORT long double_live_handles()
{
    return live.load();
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
    ++live;
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
    --live;
    return next(tensor);
}
