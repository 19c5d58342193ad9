// The metal backend: launches encoded into torch's own MPS stream through the C ABI aoti_torch_mps_* that libtorch
// exports from 2.10 on. It is resolved at run time: nothing of torch is needed to build or to load this.
#pragma once
#include <string>
#include <vector>

#include "launcher/launch.h"

namespace nerf_metal::metal {

// Resolves the C ABI. libtorch: path of the libtorch_cpu that is already loaded. provider: a library that defines
// aoti_torch_mps_* instead of it, or "" (the tests' double, on Linux). Throws std::runtime_error that names what
// is missing and the torch that has it.
void load(const std::string& libtorch, const std::string& provider);

// Whether a provider stands in for torch: its tensors are then on the CPU.
bool has_provider();

// Compiles a shader library from source. Throws std::runtime_error with the compiler's text where torch hands it
// out.
void compile(const std::string& library, const std::string& source);
bool is_compiled(const std::string& library);

// Encodes a checked launch. tensors: for each buffer an at::Tensor handle or null. Does not wait for the GPU.
// Throws std::runtime_error that names the kernel and the call that failed.
void run(const Launch& launch, const std::vector<void*>& tensors);

// An at::Tensor handle for a Python tensor, freed with it.
class TensorHandle {
public:
    explicit TensorHandle(void* handle) : handle_(handle) {}
    TensorHandle(TensorHandle&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
    TensorHandle(const TensorHandle&) = delete;
    TensorHandle& operator=(const TensorHandle&) = delete;
    ~TensorHandle();
    void* get() const { return handle_; }

private:
    void* handle_;
};

// torch_tensor_from_pyobject where torch has it (2.14 on); null otherwise. Returns an error code.
using FromPython = int32_t (*)(void* object, void** handle);
FromPython from_python();

}  // namespace nerf_metal::metal
