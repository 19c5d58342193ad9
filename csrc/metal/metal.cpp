#include "metal/metal.h"

#include <dlfcn.h>

#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>

namespace nerf_metal::metal {
namespace {

using Error = int32_t;
using Handle = void*;

struct Abi {
    bool loaded = false;
    bool provided = false;
    Error (*delete_tensor)(Handle);
    Error (*create_library)(const char*, Handle*);
    Error (*get_kernel)(Handle, const char*, Handle*);
    Error (*start_encoding)(Handle);
    Error (*set_tensor)(Handle, unsigned, Handle);
    Error (*set_int)(Handle, unsigned, int64_t);
    Error (*dispatch)(Handle, const uint64_t*, size_t, const uint64_t*, size_t);
    Error (*run_block)(Handle, void (*)(Handle, void*), void*);
    // For argument structs of more than 8 bytes: public from 2.14 on; before, the method behind set_int, whose
    // handle is the object itself.
    Error (*set_bytes)(Handle, unsigned, const void*, size_t);
    void (*set_bytes_method)(Handle, unsigned, const void*, unsigned long long);
    const char* (*what)();
    FromPython from_python;
} abi{};

// Launches look kernels up without the interpreter's lock.
std::mutex lookup;
std::map<std::string, Handle> libraries;  // never freed: kernels live as long as the process
std::map<std::string, Handle> kernels;

template <typename F>
void resolve(void* library, const char* name, F& function, bool optional = false)
{
    void* symbol = dlsym(library, name);
    std::memcpy(&function, &symbol, sizeof(function));
    if (symbol == nullptr && !optional) {
        throw std::runtime_error(std::string("[metal] torch must export ") + name +
                                 ", which it does from 2.10 on for macOS; install torch>=2.10");
    }
}

std::string reason()
{
    const char* text = abi.what != nullptr ? abi.what() : nullptr;
    return text != nullptr && *text != '\0' ? std::string(": ") + text : std::string();
}

struct Encoding {
    const Launch& launch;
    const std::vector<void*>& tensors;
    Error code;
    const char* failed;  // the call that returned an error
    size_t at;           // its argument
};

// Runs inside torch's command block, on the stream's queue: no Python, no exception.
void encode(Handle kernel, void* data)
{
    auto& e = *static_cast<Encoding*>(data);
    const auto call = [&e](const char* name, size_t at, Error code) {
        e.code = code;
        e.failed = name;
        e.at = at;
        return code == 0;
    };
    if (!call("start_encoding", 0, abi.start_encoding(kernel))) {
        return;
    }
    const auto count = static_cast<unsigned>(e.tensors.size());
    for (unsigned i = 0; i < count; ++i) {
        if (!call("set_arg_tensor", i, abi.set_tensor(kernel, i, e.tensors[i]))) {
            return;
        }
    }
    const std::string& params = e.launch.params;
    if (params.size() <= sizeof(int64_t)) {
        int64_t word = 0;
        std::memcpy(&word, params.data(), params.size());
        if (!call("set_arg_int", count, abi.set_int(kernel, count, word))) {
            return;
        }
    } else if (abi.set_bytes != nullptr) {
        if (!call("set_arg_bytes", count, abi.set_bytes(kernel, count, params.data(), params.size()))) {
            return;
        }
    } else {
        abi.set_bytes_method(kernel, count, params.data(), params.size());
    }
    uint64_t grid[3];
    uint64_t group[3];
    for (int axis = 0; axis < 3; ++axis) {
        grid[axis] = e.launch.grid[axis];
        group[axis] = e.launch.group[axis];
    }
    call("dispatch_array_with_group_size", 0, abi.dispatch(kernel, grid, 3, group, 3));
}

Handle kernel_handle(const KernelInfo& info)
{
    const std::lock_guard<std::mutex> lock(lookup);
    const auto known = kernels.find(info.name);
    if (known != kernels.end()) {
        return known->second;
    }
    const auto library = libraries.find(info.library);
    if (library == libraries.end()) {
        throw std::runtime_error(std::string("[") + info.name + "] shader library " + info.library +
                                 " must be compiled first");
    }
    Handle kernel = nullptr;
    if (abi.get_kernel(library->second, info.name, &kernel) != 0 || kernel == nullptr) {
        throw std::runtime_error(std::string("[") + info.name + "] Metal gives no pipeline for it from library " +
                                 info.library + reason());
    }
    return kernels[info.name] = kernel;
}

}  // namespace

void load(const std::string& libtorch, const std::string& provider)
{
    void* torch = dlopen(libtorch.c_str(), RTLD_NOLOAD | RTLD_LAZY);
    if (torch == nullptr) {
        throw std::runtime_error("[metal] " + libtorch + " must be loaded; import torch first");
    }
    void* mps = torch;
    if (!provider.empty() && (mps = dlopen(provider.c_str(), RTLD_NOW | RTLD_LOCAL)) == nullptr) {
        throw std::runtime_error(std::string("[metal] ") + dlerror());
    }
    Abi found{};
    resolve(torch, "aoti_torch_delete_tensor_object", found.delete_tensor);
    resolve(torch, "torch_tensor_from_pyobject", found.from_python, true);
    resolve(mps, "torch_exception_get_what", found.what, true);
    resolve(mps, "aoti_torch_mps_create_shader_library", found.create_library);
    resolve(mps, "aoti_torch_mps_get_kernel_function", found.get_kernel);
    resolve(mps, "aoti_torch_mps_start_encoding", found.start_encoding);
    resolve(mps, "aoti_torch_mps_set_arg_tensor", found.set_tensor);
    resolve(mps, "aoti_torch_mps_set_arg_int", found.set_int);
    resolve(mps, "aoti_torch_mps_dispatch_array_with_group_size", found.dispatch);
    resolve(mps, "aoti_torch_mps_run_command_block", found.run_block);
    resolve(mps, "torch_mps_set_arg_bytes", found.set_bytes, true);
    // at::native::mps::MetalKernelFunction::setArg(unsigned, void const*, unsigned long long), torch 2.6 to 2.15
    resolve(mps, "_ZN2at6native3mps19MetalKernelFunction6setArgEjPKvy", found.set_bytes_method,
            found.set_bytes != nullptr);
    found.loaded = true;
    found.provided = !provider.empty();
    const std::lock_guard<std::mutex> lock(lookup);
    abi = found;
    libraries.clear();
    kernels.clear();
}

bool has_provider()
{
    return abi.provided;
}

void compile(const std::string& library, const std::string& source)
{
    if (!abi.loaded) {
        throw std::runtime_error("[metal] load must come before compile");
    }
    Handle handle = nullptr;
    if (abi.create_library(source.c_str(), &handle) != 0 || handle == nullptr) {
        throw std::runtime_error("[" + library + "] Metal could not compile the shader" + reason());
    }
    const std::lock_guard<std::mutex> lock(lookup);
    libraries[library] = handle;
    for (const Module* module : modules()) {  // drop kernels of an older text
        for (size_t i = 0; i < module->kernel_count; ++i) {
            if (library == module->kernels[i].library) {
                kernels.erase(module->kernels[i].name);
            }
        }
    }
}

bool is_compiled(const std::string& library)
{
    const std::lock_guard<std::mutex> lock(lookup);
    return libraries.count(library) != 0;
}

void run(const Launch& launch, const std::vector<void*>& tensors)
{
    if (!abi.loaded) {
        throw std::runtime_error("[metal] load must come before a launch");
    }
    // A buffer without elements is never read, but Metal wants every index bound: any tensor will do.
    std::vector<void*> bound = tensors;
    void* any = nullptr;
    for (void* tensor : bound) {
        any = any != nullptr ? any : tensor;
    }
    if (launch.threads() == 0 || any == nullptr) {  // without a tensor there is nothing to write
        return;
    }
    for (void*& tensor : bound) {
        tensor = tensor != nullptr ? tensor : any;
    }
    Encoding encoding{launch, bound, 0, "run_command_block", 0};
    const Error code = abi.run_block(kernel_handle(*launch.info), &encode, &encoding);
    if (code != 0 && encoding.code == 0) {
        encoding.failed = "run_command_block";
        encoding.code = code;
    }
    if (encoding.code != 0) {
        std::string text = std::string("[") + launch.info->name + "] Metal launch failed in " + encoding.failed;
        if (encoding.failed == std::string("set_arg_tensor")) {
            text += std::string(" for ") + launch.info->buffers[encoding.at].name;
        }
        throw std::runtime_error(text + reason());
    }
}

TensorHandle::~TensorHandle()
{
    if (handle_ != nullptr) {
        abi.delete_tensor(handle_);
    }
}

FromPython from_python()
{
    return abi.from_python;
}

}  // namespace nerf_metal::metal
