#include "launcher/messages.h"

#include <algorithm>

namespace py = pybind11;

namespace nerf_metal {

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

std::string prefix(const Launch& launch)
{
    return std::string("[") + launch.info->name + "] ";
}

std::string type_name(py::handle object)
{
    return Py_TYPE(object.ptr())->tp_name;
}

void clear_error()
{
    if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_Exception) == 0) {
        throw py::error_already_set();
    }
    PyErr_Clear();
}

}  // namespace nerf_metal
