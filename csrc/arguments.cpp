#include "arguments.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <tuple>

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

Argument tensor_argument(const Launch& launch, py::handle tensor, Memory memory)
{
    static const Name numel("numel"), dtype("dtype"), data_ptr("data_ptr"), storage_offset("storage_offset"),
        untyped_storage("untyped_storage"), nbytes("nbytes"), is_cpu("is_cpu"), is_mps("is_mps"),
        is_meta("is_meta");
    const Torch& torch = Torch::get();
    if (PyType_IsSubtype(Py_TYPE(tensor.ptr()), torch.tensor) == 0) {
        throw py::type_error(std::string("[launch] a buffer must be a torch.Tensor or None, got ") +
                             Py_TYPE(tensor.ptr())->tp_name);
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
        throw py::type_error("[launch] a buffer must be float32, float16, int32, uint8 or bool, got " +
                             std::string(py::str(type)));
    }
    const bool right = (memory == Memory::cpu ? is_cpu : is_mps).get(tensor).ptr() == Py_True;
    if (!right &&
        is_meta.get(tensor).ptr() != Py_True) {  // a meta tensor has the address 0, which check() refuses
        throw std::invalid_argument(std::string("[") + launch.info->name + "] buffers must be on " +
                                    (memory == Memory::cpu ? "cpu" : "mps") + ", got one on " +
                                    std::string(py::str(tensor.attr("device"))) + "; move it or take its backend");
    }
    argument.data = reinterpret_cast<void*>(number(data_ptr.call(tensor)));
    // A storage offset is honoured, strides are the kernel's affair: what counts is where the storage ends.
    argument.elements = number(nbytes.call(untyped_storage.call(tensor))) / size_of(argument.dtype) -
                        number(storage_offset.call(tensor));
    return argument;
}

Argument argument_of(const Launch& launch, py::handle buffer, Memory memory)
{
    if (buffer.is_none()) {
        return {};
    }
    if (PyTuple_Check(buffer.ptr()) == 0) {
        return tensor_argument(launch, buffer, memory);
    }
    const auto [address, elements, dtype] = buffer.cast<std::tuple<uintptr_t, uint64_t, int>>();
    return {reinterpret_cast<void*>(address), elements, static_cast<DType>(dtype), true};
}

// One member's four bytes. False where the value is no number of its type.
bool pack_member(char type, PyObject* value, char* out)
{
    if (type == 'f') {
        const double number = PyFloat_AsDouble(value);
        const auto narrow = static_cast<float>(number);
        std::memcpy(out, &narrow, sizeof narrow);
        return PyErr_Occurred() == nullptr && (std::isfinite(narrow) || !std::isfinite(number));
    }
    const auto whole = py::reinterpret_steal<py::object>(PyNumber_Index(value));
    const long long number = whole ? PyLong_AsLongLong(whole.ptr()) : -1;
    const bool is_unsigned = type == 'u';
    const auto low = is_unsigned ? 0LL : std::numeric_limits<int32_t>::min();
    const auto high = is_unsigned ? static_cast<long long>(std::numeric_limits<uint32_t>::max())
                                  : std::numeric_limits<int32_t>::max();
    const auto bits = static_cast<uint32_t>(number);
    std::memcpy(out, &bits, sizeof bits);
    return PyErr_Occurred() == nullptr && number >= low && number <= high;
}

std::string pack(const Launch& launch, const py::dict& params)
{
    const StructInfo& info = *launch.info->params;
    std::string packed(info.bytes, '\0');
    bool complete = params.size() == info.member_count;
    PyObject *key = nullptr, *next = nullptr;
    Py_ssize_t position = 0;
    for (size_t i = 0; complete && i < info.member_count; ++i) {
        const MemberInfo& member = info.members[i];
        // In the struct's order, as the ops write them, nothing need be looked up.
        PyDict_Next(params.ptr(), &position, &key, &next);
        const bool in_order = PyUnicode_Check(key) != 0 && PyUnicode_CompareWithASCIIString(key, member.name) == 0;
        PyObject* value = in_order ? next : PyDict_GetItemString(params.ptr(), member.name);
        complete = value != nullptr;
        if (complete && !pack_member(member.type[0], value, packed.data() + 4 * i)) {
            PyErr_Clear();
            throw std::invalid_argument(std::string("[") + launch.info->name +
                                        "] params must fit 32 bits each: " + member.name + " is " + member.type +
                                        "; got " + std::string(py::str(params)));
        }
    }
    if (!complete) {
        py::list wanted, got(params.attr("keys")());
        for (size_t i = 0; i < info.member_count; ++i) {
            wanted.append(info.members[i].name);
        }
        wanted.attr("sort")();
        got.attr("sort")(py::arg("key") = py::module_::import("builtins").attr("str"));  // keys may be anything
        throw std::invalid_argument(std::string("[") + launch.info->name + "] params must be " +
                                    std::string(py::str(wanted)) + ", got " + std::string(py::str(got)));
    }
    return packed;
}

}  // namespace

Launch make_launch(const std::string& name, const py::sequence& buffers, const py::object& params,
                   const std::array<uint32_t, 3>& grid, const std::array<uint32_t, 3>& group, Memory memory)
{
    Launch launch = find_kernel(name);
    launch.params = py::isinstance<py::dict>(params) ? pack(launch, params) : params.cast<std::string>();
    launch.arguments.reserve(launch.info->buffer_count);
    for (const py::handle buffer : buffers) {
        launch.arguments.push_back(argument_of(launch, buffer, memory));
    }
    launch.grid = grid;
    launch.group = group;
    check(launch);
    return launch;
}

}  // namespace nerf_metal
