// nerf_metal_execute on an NVIDIA GPU: what the double of Metal calls for a dispatch. Whatever a kernel's buffers
// must hold is copied there and, where the kernel may write, back: right, not fast.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "launcher/module.h"

using uint = unsigned int;
#include "params.h"

#include "kernel_table.inc"

namespace {

using Entry = int (*)(void* const*, const void*, const uint32_t*, const uint32_t*);
#include "entries.inc"

void need(int error, const std::string& what)
{
    if (error != cudaSuccess) {
        throw std::runtime_error(what + ": " + cudaGetErrorString(static_cast<cudaError_t>(error)));
    }
}

// Memory of the host and its copy on the GPU. Exactly as large as the kernel's arguments say, so that memcheck
// sees an access beyond.
struct Block {
    char* host;
    char* end;
    bool written;
    char* device = nullptr;
};

class Copies {
public:
    // Buffers that overlap, views of one tensor, share a block: what is written to one is seen in the other.
    // Behind the delegation the object stands: what is allocated is freed where the rest throws.
    explicit Copies(std::vector<Block> wanted) : Copies()
    {
        std::sort(wanted.begin(), wanted.end(), [](const Block& a, const Block& b) { return a.host < b.host; });
        for (const Block& block : wanted) {
            if (!blocks_.empty() && block.host < blocks_.back().end) {
                blocks_.back().end = std::max(blocks_.back().end, block.end);
                blocks_.back().written |= block.written;
            } else {
                blocks_.push_back(block);
            }
        }
        for (Block& block : blocks_) {
            const size_t bytes = block.end - block.host;
            need(cudaMalloc(reinterpret_cast<void**>(&block.device), bytes), "cudaMalloc");
            need(cudaMemcpy(block.device, block.host, bytes, cudaMemcpyHostToDevice), "copy to the GPU");
        }
    }
    ~Copies()
    {
        for (const Block& block : blocks_) {
            cudaFree(block.device);
        }
    }
    Copies(const Copies&) = delete;
    Copies& operator=(const Copies&) = delete;

    void* on_device(const char* host) const
    {
        for (const Block& block : blocks_) {
            if (block.host <= host && host < block.end) {
                return block.device + (host - block.host);
            }
        }
        return nullptr;  // a buffer without elements
    }
    void back() const
    {
        for (const Block& block : blocks_) {
            if (block.written) {
                need(cudaMemcpy(block.host, block.device, block.end - block.host, cudaMemcpyDeviceToHost),
                     "copy from the GPU");
            }
        }
    }

private:
    Copies() = default;

    std::vector<Block> blocks_;
};

void run(const std::string& name, void* const* buffers, size_t buffer_count, const void* params,
         size_t params_bytes, const uint32_t* grid, const uint32_t* group)
{
    const auto* const end = nerf_metal::kKernels + nerf_metal::kKernelCount;
    const auto* const info =
        std::find_if(nerf_metal::kKernels, end, [&](const auto& known) { return name == known.name; });
    if (info == end || info->buffer_count != buffer_count || params_bytes < info->params->bytes) {
        throw std::runtime_error("built from other shaders than the extension; run python -m proof.cuda again");
    }
    std::vector<double> elements(buffer_count);
    info->elements(params, elements.data());
    std::vector<Block> wanted;
    for (size_t i = 0; i < buffer_count; ++i) {
        const auto bytes = static_cast<size_t>(std::max(elements[i], 0.0)) * size_of(info->buffers[i].dtype);
        if (bytes > 0) {
            auto* const host = static_cast<char*>(buffers[i]);
            wanted.push_back({host, host + bytes, info->buffers[i].writable});
        }
    }
    const Copies copies(std::move(wanted));
    std::vector<void*> places;
    for (size_t i = 0; i < buffer_count; ++i) {
        places.push_back(elements[i] > 0 ? copies.on_device(static_cast<char*>(buffers[i])) : nullptr);
    }
    need(kEntries[info - nerf_metal::kKernels](places.data(), params, grid, group), "launch");
    need(cudaDeviceSynchronize(), "kernel");
    copies.back();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int nerf_metal_execute(const char* kernel, void* const* buffers,
                                                                         size_t buffer_count, const void* params,
                                                                         size_t params_bytes, const uint32_t* grid,
                                                                         const uint32_t* group, char* error,
                                                                         size_t error_bytes)
{
    try {
        run(kernel, buffers, buffer_count, params, params_bytes, grid, group);
        return 0;
    } catch (const std::exception& e) {
        std::strncpy(error, (std::string("cuda: ") + e.what()).c_str(), error_bytes - 1);
        return 1;
    }
}
