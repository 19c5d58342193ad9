#include "arguments.h"

#include <algorithm>
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

// An object in a message: Python's text of it, cut to a part of a line.
std::string shown(py::handle object)
{
    constexpr size_t kMost = 80;
    std::string text;
    try {
        text = py::str(py::repr(object));
    } catch (py::error_already_set&) {  // a number of too many digits
        text = Py_TYPE(object.ptr())->tp_name;
    }
    std::replace(text.begin(), text.end(), '\n', ' ');
    if (text.size() > kMost) {
        size_t end = kMost;
        while ((text[end] & 0xC0) == 0x80) {  // within a character
            --end;
        }
        text.resize(end);
        text += "...";
    }
    return text;
}

std::string named(const Launch& launch)
{
    return std::string("[") + launch.info->name + "] ";
}

std::string type_name(py::handle object)
{
    return Py_TYPE(object.ptr())->tp_name;
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

Argument tensor_argument(const Launch& launch, const std::string& name, py::handle tensor, Memory memory)
{
    static const Name numel("numel"), dtype("dtype"), data_ptr("data_ptr"), storage_offset("storage_offset"),
        untyped_storage("untyped_storage"), nbytes("nbytes"), is_cpu("is_cpu"), is_mps("is_mps"), device("device");
    const Torch& torch = Torch::get();
    if (PyType_IsSubtype(Py_TYPE(tensor.ptr()), torch.tensor) == 0) {
        throw py::type_error("[launch] a buffer must be a torch.Tensor or None, got " + type_name(tensor));
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
    if ((memory == Memory::cpu ? is_cpu : is_mps).get(tensor).ptr() != Py_True) {
        throw std::invalid_argument(named(launch) + name + " must be on " +
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
Argument memory_argument(const Launch& launch, const std::string& name, py::handle described)
{
    try {
        const auto [address, elements, dtype] = described.cast<std::tuple<uintptr_t, uint64_t, uint8_t>>();
        if (dtype <= static_cast<uint8_t>(DType::uchar_)) {
            return {reinterpret_cast<void*>(address), elements, static_cast<DType>(dtype), true};
        }
    } catch (const py::cast_error&) {
    }
    throw py::type_error(named(launch) + name + " must be (address, elements, type), got " + shown(described));
}

Argument argument_of(const Launch& launch, const std::string& name, py::handle buffer, Memory memory)
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
        throw std::invalid_argument(named(launch) + name + " must be a dense tensor with memory, got " +
                                    shown(error.value()));
    }
}

std::array<uint32_t, 3> counts_of(const Launch& launch, const char* name, py::handle size)
{
    if (PyTuple_Check(size.ptr()) == 0) {
        throw py::type_error(named(launch) + name + " must be a tuple of 1 to 3 counts, got " + type_name(size));
    }
    const Py_ssize_t axes = PyTuple_GET_SIZE(size.ptr());
    if (axes < 1 || axes > 3) {
        throw std::invalid_argument(named(launch) + name + " must have 1 to 3 axes, got " + std::to_string(axes));
    }
    std::array<uint32_t, 3> counts{1, 1, 1};
    for (Py_ssize_t axis = 0; axis < axes; ++axis) {
        char bits[sizeof counts[0]];
        if (!pack_member('u', PyTuple_GET_ITEM(size.ptr(), axis), bits)) {
            PyErr_Clear();
            throw std::invalid_argument(named(launch) + name +
                                        " must hold whole numbers from 0 to 2^32 - 1, got " + shown(size));
        }
        std::memcpy(&counts[axis], bits, sizeof bits);
    }
    return counts;
}

std::string listed(std::vector<std::string> names)
{
    constexpr size_t kMost = 20;  // the largest struct has 14 members
    std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
        return a.compare(a[0] == '\'', a.npos, b, b[0] == '\'', b.npos) < 0;  // text without its quotes
    });
    std::string text;
    for (size_t i = 0; i < std::min(names.size(), kMost); ++i) {
        text += (i == 0 ? "" : ", ") + names[i];
    }
    return "[" + text + (names.size() > kMost ? ", ...]" : "]");
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
        // Held: to ask it for its number may run Python, which may take it out of the dict.
        const auto value =
            py::reinterpret_borrow<py::object>(in_order ? next : PyDict_GetItemString(params.ptr(), member.name));
        complete = bool(value);
        if (complete && !pack_member(member.type[0], value.ptr(), packed.data() + 4 * i)) {
            PyErr_Clear();
            throw std::invalid_argument(named(launch) + "params must fit 32 bits each: " + member.name + " is " +
                                        member.type + "; got " + shown(value));
        }
    }
    if (!complete) {
        std::vector<std::string> wanted, got;
        for (size_t i = 0; i < info.member_count; ++i) {
            wanted.push_back(std::string("'") + info.members[i].name + "'");
        }
        for (const auto& [name, value] : params) {
            got.push_back(shown(name));  // keys may be anything
        }
        throw std::invalid_argument(named(launch) + "params must be " + listed(wanted) + ", got " + listed(got));
    }
    return packed;
}

}  // namespace

py::object fixed(py::handle buffers)
{
    if (PyList_Check(buffers.ptr()) == 0) {
        return py::reinterpret_borrow<py::object>(buffers);
    }
    return py::reinterpret_steal<py::object>(PyList_AsTuple(buffers.ptr()));
}

Launch make_launch(py::handle kernel, py::handle buffers, py::handle params, py::handle grid, py::handle group,
                   Memory memory)
{
    const char* name = PyUnicode_Check(kernel.ptr()) != 0 ? PyUnicode_AsUTF8(kernel.ptr()) : nullptr;
    if (name == nullptr) {
        PyErr_Clear();  // text that has no UTF-8
        throw py::type_error("[launch] kernel must be the name of one, got " + shown(kernel));
    }
    Launch launch = find_kernel(name);
    if (PyDict_Check(params.ptr()) != 0) {
        launch.params = pack(launch, py::reinterpret_borrow<py::dict>(params));
    } else if (PyBytes_Check(params.ptr()) != 0) {
        launch.params.assign(PyBytes_AS_STRING(params.ptr()), PyBytes_GET_SIZE(params.ptr()));
    } else {
        throw py::type_error(named(launch) + "params must be a dict or bytes, got " + type_name(params));
    }
    const py::object row = fixed(buffers);
    if (PyTuple_Check(row.ptr()) == 0) {
        throw py::type_error(named(launch) + "buffers must be a list or tuple, got " + type_name(row));
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(row.ptr()); ++i) {
        const bool known = static_cast<size_t>(i) < launch.info->buffer_count;
        launch.arguments.push_back(argument_of(launch, known ? launch.info->buffers[i].name : "a buffer too many",
                                               PyTuple_GET_ITEM(row.ptr(), i), memory));
    }
    launch.grid = counts_of(launch, "grid", grid);
    launch.group = counts_of(launch, "group", group);
    check(launch);
    return launch;
}

}  // namespace nerf_metal
