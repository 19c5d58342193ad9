#include "launcher/tensors.h"

#include <stdexcept>
#include <tuple>

#include "launcher/messages.h"

namespace py = pybind11;

namespace nerf_metal {
namespace {

// A Python name made once.
class Name {
public:
    explicit Name(const char* text) : object_(PyUnicode_InternFromString(text)) {}

    py::object get(py::handle of) const
    {
        return py::reinterpret_steal<py::object>(checked(PyObject_GetAttr(of.ptr(), object_)));
    }

    py::object call(py::handle of) const
    {
        PyObject* arguments[] = {of.ptr()};
        return py::reinterpret_steal<py::object>(
            checked(PyObject_VectorcallMethod(object_, arguments, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr)));
    }

private:
    static PyObject* checked(PyObject* result)
    {
        if (result == nullptr) {
            throw py::error_already_set();
        }
        return result;
    }

    PyObject* object_;  // never given back: it lives as long as the process
};

uint64_t number(const py::object& value)
{
    const uint64_t result = PyLong_AsUnsignedLongLong(value.ptr());
    if (result == static_cast<uint64_t>(-1) && PyErr_Occurred() != nullptr) {
        throw py::error_already_set();
    }
    return result;
}

// Torch's types, looked up when the first tensor comes: without torch there is none.
struct Torch {
    PyTypeObject* tensor;
    std::vector<std::pair<PyObject*, DType>> dtypes;

    static const Torch& get()
    {
        static const Torch& torch = *new Torch(py::module_::import("torch"));
        return torch;
    }

private:
    explicit Torch(const py::module_& torch)
        : tensor(reinterpret_cast<PyTypeObject*>(py::object(torch.attr("Tensor")).release().ptr()))
    {
        const std::pair<const char*, DType> known[] = {{"float32", DType::float_},
                                                       {"float16", DType::half_},
                                                       {"int32", DType::int_},
                                                       {"uint8", DType::uchar_},
                                                       {"bool", DType::uchar_}};  // one byte, 0 or 1
        for (const auto& [name, dtype] : known) {
            dtypes.emplace_back(py::object(torch.attr(name)).release().ptr(), dtype);
        }
    }
};

Argument tensor_argument(const Launch& launch, const char* name, py::handle tensor, Memory memory)
{
    static const Name numel("numel"), dtype("dtype"), data_ptr("data_ptr"), storage_offset("storage_offset"),
        untyped_storage("untyped_storage"), nbytes("nbytes"), is_cpu("is_cpu"), is_mps("is_mps"), device("device");
    const Torch& torch = Torch::get();
    if (PyType_IsSubtype(Py_TYPE(tensor.ptr()), torch.tensor) == 0) {
        throw py::type_error(prefix(launch) + name + " must be a torch.Tensor or None, got " + type_name(tensor));
    }
    Argument argument;
    if (number(numel.call(tensor)) == 0) {
        return argument;  // holds nothing, as None
    }
    const py::object type = dtype.get(tensor);
    for (const auto& [object, code] : torch.dtypes) {
        if (object == type.ptr()) {
            argument.dtype = code;
            argument.present = true;
        }
    }
    if (!argument.present) {
        throw py::type_error(prefix(launch) + name + " must be float32, float16, int32, uint8 or bool, got " +
                             std::string(py::str(type)));
    }
    if ((memory == Memory::cpu ? is_cpu : is_mps).get(tensor).ptr() != Py_True) {
        throw std::invalid_argument(prefix(launch) + name + " must be on " +
                                    (memory == Memory::cpu ? "cpu" : "mps") + ", got " +
                                    std::string(py::str(device.get(tensor))) + "; move it or take its backend");
    }
    argument.data = reinterpret_cast<void*>(number(data_ptr.call(tensor)));
    // A storage offset is honoured, strides are the kernel's affair: what counts is where the storage ends, which
    // may have been made smaller than the tensor.
    const uint64_t elements = number(nbytes.call(untyped_storage.call(tensor))) / size_of(argument.dtype);
    const uint64_t offset = number(storage_offset.call(tensor));
    argument.elements = elements > offset ? elements - offset : 0;
    return argument;
}

// Memory that is no tensor's.
Argument memory_argument(const Launch& launch, const char* name, py::handle described)
{
    try {
        const auto [address, elements, dtype] = described.cast<std::tuple<uintptr_t, uint64_t, uint8_t>>();
        if (dtype <= static_cast<uint8_t>(DType::uchar_)) {
            return {reinterpret_cast<void*>(address), elements, static_cast<DType>(dtype), true};
        }
    } catch (const py::cast_error&) {
    }
    throw py::type_error(prefix(launch) + name + " must be (address, elements, type), got " + shown(described));
}

}  // namespace

Argument argument_of(const Launch& launch, const char* name, py::handle buffer, Memory memory)
{
    if (buffer.is_none()) {
        return {};
    }
    if (PyTuple_Check(buffer.ptr()) != 0) {
        return memory_argument(launch, name, buffer);
    }
    try {
        return tensor_argument(launch, name, buffer, memory);
    } catch (const py::error_already_set& error) {  // sparse and traced tensors have no address, and torch says so
        if (!error.matches(PyExc_Exception)) {
            throw;
        }
        throw std::invalid_argument(prefix(launch) + name + " must be a dense tensor with memory, got " +
                                    shown(error.value()));
    }
}

}  // namespace nerf_metal
