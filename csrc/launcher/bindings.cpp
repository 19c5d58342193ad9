// The extension module nerf_metal._C: tables out, launches in. Nothing here knows an op.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "launcher/arguments.h"
#include "host/host.h"
#include "launcher/launch.h"
#include "launcher/messages.h"
#include "metal/metal.h"
#include "strict/strict.h"

namespace py = pybind11;
using namespace nerf_metal;

namespace {

metal::TensorHandle handle_of(const Launch& launch, const char* name, const py::handle& tensor)
{
    void* handle = nullptr;
    if (metal::from_python() != nullptr) {
        if (metal::from_python()(tensor.ptr(), &handle) != 0) {
            throw py::type_error(prefix(launch) + name + " must be a torch.Tensor");
        }
        return metal::TensorHandle(handle);
    }
    // Before torch 2.14: the capsule holds a new at::Tensor and no destructor, so the handle is ours to free.
    static const py::object& alloc = *new py::object(
        py::module_::import("torch").attr("_C").attr("_aoti").attr("unsafe_alloc_void_ptr_from_tensor"));
    const py::object capsule = alloc(tensor);
    handle = PyCapsule_GetPointer(capsule.ptr(), nullptr);
    if (handle == nullptr) {
        throw py::error_already_set();
    }
    return metal::TensorHandle(handle);
}

strict::Order order_of(const std::string& name)
{
    if (name == "forward")
        return strict::Order::forward;
    if (name == "reversed")
        return strict::Order::reversed;
    if (name == "shuffled")
        return strict::Order::shuffled;
    throw py::value_error("[launch_strict] order must be forward, reversed or shuffled, got '" + name + "'");
}

void launch_host(py::handle kernel, py::handle buffers, py::handle params, py::handle grid, py::handle group,
                 unsigned threads, bool long_threads)
{
    const py::object row = as_tuple(buffers);  // another thread may empty the list meanwhile
    Launch launch = make_launch(kernel, row, params, grid, group, Memory::cpu);
    launch.long_threads = long_threads;
    const py::gil_scoped_release unlocked;
    host::run(launch, threads);
}

void launch_strict(py::handle kernel, py::handle buffers, py::handle params, py::handle grid, py::handle group,
                   const std::string& order, uint64_t seed)
{
    const strict::Order lanes = order_of(order);
    const py::object row = as_tuple(buffers);
    const Launch launch = make_launch(kernel, row, params, grid, group, Memory::cpu);
    const py::gil_scoped_release unlocked;
    strict::run(launch, lanes, seed);
}

void launch_metal(py::handle kernel, py::handle tensors, py::handle params, py::handle grid, py::handle group)
{
    const Memory memory = metal::has_provider() ? Memory::cpu : Memory::mps;
    const py::object row = as_tuple(tensors);
    const Launch launch = make_launch(kernel, row, params, grid, group, memory);
    std::vector<metal::TensorHandle> handles;
    std::vector<void*> raw;
    for (size_t i = 0; i < launch.arguments.size(); ++i) {
        const py::handle tensor = PyTuple_GET_ITEM(row.ptr(), static_cast<Py_ssize_t>(i));
        const char* const name = launch.info->buffers[i].name;
        if (PyTuple_Check(tensor.ptr()) != 0) {
            throw py::type_error(prefix(launch) + name + " must be a torch.Tensor or None, got tuple");
        }
        if (launch.arguments[i].present) {
            handles.push_back(handle_of(launch, name, tensor));
        }
        raw.push_back(launch.arguments[i].present ? handles.back().get() : nullptr);
    }
    // Torch's stream queue may be held by a thread that waits for the interpreter.
    const py::gil_scoped_release unlocked;
    metal::run(launch, raw);
}

py::dict kernel_table(bool loaded)
{
    static const char* const types[] = {"float", "half", "int", "uint", "uchar"};
    py::dict table;
    for (const Module* module : modules()) {
        for (size_t i = 0; i < module->kernel_count; ++i) {
            const KernelInfo& kernel = module->kernels[i];
            py::list buffers;
            for (size_t b = 0; b < kernel.buffer_count; ++b) {
                const BufferInfo& info = kernel.buffers[b];
                buffers.append(py::make_tuple(info.name, types[static_cast<int>(info.dtype)], info.writable));
            }
            table[kernel.name] =
                py::make_tuple(kernel.library, py::tuple(buffers), kernel.params->name, kernel.collective);
        }
        if (!loaded) {
            break;  // the first is the extension's own
        }
    }
    return table;
}

py::dict struct_table()
{
    py::dict table;
    for (const Module* module : modules()) {
        for (size_t i = 0; i < module->struct_count; ++i) {
            py::list members;
            for (size_t m = 0; m < module->structs[i].member_count; ++m) {
                members.append(
                    py::make_tuple(module->structs[i].members[m].name, module->structs[i].members[m].type));
            }
            table[module->structs[i].name] = py::tuple(members);
        }
    }
    return table;
}

py::dict shader_sources()
{
    py::dict sources;
    for (const Module* module : modules()) {
        for (size_t i = 0; i < module->source_count; ++i) {
            if (!sources.contains(module->sources[i].name)) {  // another module's params.h is not ours
                sources[module->sources[i].name] = module->sources[i].text;
            }
        }
    }
    return sources;
}

}  // namespace

PYBIND11_MODULE(_C, m)
{
    // nerf_metal/_C.pyi says the same for type checkers; tests/kernels/test_stub.py compares the two.
    m.doc() = "Kernel tables and launches. Use nerf_metal.ops; nerf_metal.kernels wraps this.";
    m.def("kernel_table", &kernel_table, py::arg("loaded") = true,
          "name -> (library, ((buffer, type, writable), ...), struct, collective); loaded: also of shaders loaded "
          "since");
    m.def("struct_table", &struct_table, "struct -> ((member, type), ...)");
    m.def("shader_sources", &shader_sources, "file name -> text, as embedded at build time");
    m.def("load_module", &load_module, py::arg("path"), "Load a shared library of further kernels.");
    m.def("host_isas", &host::usable_isas,
          "Instruction sets of the host kernels that this processor can run, best last.");
    m.def("host_isa", &host::isa, "The instruction set of the host kernels in use.");
    m.def("launch_host", &launch_host, "Run a kernel on CPU memory, on threads.", py::arg("kernel"),
          py::arg("buffers"), py::arg("params"), py::arg("grid"), py::arg("group"), py::arg("threads"),
          py::arg("long_threads") = false);
    m.def("launch_strict", &launch_strict, "Run a kernel on CPU memory lane by lane, with every misuse reported.",
          py::arg("kernel"), py::arg("buffers"), py::arg("params"), py::arg("grid"), py::arg("group"),
          py::arg("order"), py::arg("seed"));
    m.def("launch_metal", &launch_metal, "Encode a kernel on MPS tensors into torch's stream.", py::arg("kernel"),
          py::arg("tensors"), py::arg("params"), py::arg("grid"), py::arg("group"));
    m.def("metal_load", &metal::load, "Resolve torch's Metal C ABI.", py::arg("libtorch"), py::arg("provider"));
    m.def("metal_compile", &metal::compile, "Compile a shader library from source.", py::arg("library"),
          py::arg("source"));
    m.def("metal_is_compiled", &metal::is_compiled, py::arg("library"), "Whether a shader library is compiled.");
}

// For a library that stands in for Metal in the tests: runs a launch on CPU memory. 0, or 1 with the text in
// error.
extern "C" __attribute__((visibility("default"))) int nerf_metal_execute(const char* kernel, void* const* buffers,
                                                                         size_t buffer_count, const void* params,
                                                                         size_t params_bytes, const uint32_t* grid,
                                                                         const uint32_t* group, char* error,
                                                                         size_t error_bytes)
{
    try {
        Launch launch = find_kernel(kernel);
        // Metal reads past what was bound: as many buffers as the kernel has, and the whole of its struct.
        if (buffer_count != launch.info->buffer_count || params_bytes < launch.info->params->bytes) {
            throw std::invalid_argument(std::string("[") + kernel + "] bound " + std::to_string(buffer_count) +
                                        " buffers and " + std::to_string(params_bytes) +
                                        " bytes, the kernel has " + std::to_string(launch.info->buffer_count) +
                                        " and " + std::to_string(launch.info->params->bytes));
        }
        for (size_t i = 0; i < buffer_count; ++i) {
            launch.arguments.push_back({buffers[i], 0, launch.info->buffers[i].dtype, true});
        }
        launch.params.assign(static_cast<const char*>(params), params_bytes);
        std::copy(grid, grid + 3, launch.grid.begin());
        std::copy(group, group + 3, launch.group.begin());
        if (launch.info->collective) {
            strict::run(launch, strict::Order::forward, 0);
        } else {
            host::run(launch, 1);
        }
        return 0;
    } catch (const std::exception& e) {
        std::strncpy(error, e.what(), error_bytes - 1);
        return 1;
    }
}
