#include "launcher/arguments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "launcher/messages.h"

namespace py = pybind11;

namespace nerf_metal {
namespace {

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

std::array<uint32_t, 3> counts_of(const Launch& launch, const char* name, py::handle size)
{
    if (PyTuple_Check(size.ptr()) == 0) {
        throw py::type_error(prefix(launch) + name + " must be a tuple of 1 to 3 counts, got " + type_name(size));
    }
    const Py_ssize_t axes = PyTuple_GET_SIZE(size.ptr());
    if (axes < 1 || axes > 3) {
        throw std::invalid_argument(prefix(launch) + name + " must have 1 to 3 axes, got " + std::to_string(axes));
    }
    std::array<uint32_t, 3> counts{1, 1, 1};
    for (Py_ssize_t axis = 0; axis < axes; ++axis) {
        char bits[sizeof counts[0]];
        if (!pack_member('u', PyTuple_GET_ITEM(size.ptr(), axis), bits)) {
            clear_error();
            throw std::invalid_argument(prefix(launch) + name +
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
        const bool in_order = PyDict_Next(params.ptr(), &position, &key, &next) != 0 &&
                              PyUnicode_Check(key) != 0 && PyUnicode_CompareWithASCIIString(key, member.name) == 0;
        // Held: to ask it for its number may run Python, which may take it out of the dict.
        const auto value =
            py::reinterpret_borrow<py::object>(in_order ? next : PyDict_GetItemString(params.ptr(), member.name));
        complete = bool(value);
        if (complete && !pack_member(member.type[0], value.ptr(), packed.data() + 4 * i)) {
            clear_error();
            throw std::invalid_argument(prefix(launch) + "params must fit 32 bits each: " + member.name + " is " +
                                        member.type + ", got " + shown(value));
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
        throw std::invalid_argument(prefix(launch) + "params must be " + listed(wanted) + ", got " + listed(got));
    }
    return packed;
}

}  // namespace

py::object as_tuple(py::handle buffers)
{
    if (PyList_Check(buffers.ptr()) == 0) {
        return py::reinterpret_borrow<py::object>(buffers);
    }
    PyObject* const row = PyList_AsTuple(buffers.ptr());
    if (row == nullptr) {
        throw py::error_already_set();
    }
    return py::reinterpret_steal<py::object>(row);
}

Launch make_launch(py::handle kernel, py::handle buffers, py::handle params, py::handle grid, py::handle group,
                   Memory memory)
{
    const char* name = PyUnicode_Check(kernel.ptr()) != 0 ? PyUnicode_AsUTF8(kernel.ptr()) : nullptr;
    if (name == nullptr) {
        clear_error();  // text that has no UTF-8
        throw py::type_error("[launch] kernel must be the name of one, got " + shown(kernel));
    }
    Launch launch = find_kernel(name);
    if (PyDict_Check(params.ptr()) != 0) {
        launch.params = pack(launch, py::reinterpret_borrow<py::dict>(params));
    } else if (PyBytes_Check(params.ptr()) != 0) {
        launch.params.assign(PyBytes_AS_STRING(params.ptr()), PyBytes_GET_SIZE(params.ptr()));
    } else {
        throw py::type_error(prefix(launch) + "params must be a dict or bytes, got " + type_name(params));
    }
    if (PyTuple_Check(buffers.ptr()) == 0) {
        throw py::type_error(prefix(launch) + "buffers must be a list or tuple, got " + type_name(buffers));
    }
    const auto count = static_cast<size_t>(PyTuple_GET_SIZE(buffers.ptr()));
    if (count != launch.info->buffer_count) {
        throw std::invalid_argument(prefix(launch) + "must get " + std::to_string(launch.info->buffer_count) +
                                    " buffers, got " + std::to_string(count));
    }
    launch.arguments.reserve(count);
    for (size_t i = 0; i < count; ++i) {
        launch.arguments.push_back(argument_of(launch, launch.info->buffers[i].name,
                                               PyTuple_GET_ITEM(buffers.ptr(), static_cast<Py_ssize_t>(i)),
                                               memory));
    }
    launch.grid = counts_of(launch, "grid", grid);
    launch.group = counts_of(launch, "group", group);
    check(launch);
    return launch;
}

}  // namespace nerf_metal
