// What the GPU can do at most: bytes a second of a copy, and multiply-adds a second. Figures of kernels are set
// against these, measured in the same run.
#include <cuda_runtime.h>

namespace {

constexpr unsigned kThreads = 256;
constexpr int kTimes = 10;            // the best counts
constexpr size_t kFloats = 1u << 28;  // 1 GiB each way: no cache holds it
constexpr unsigned kSteps = 4096;
constexpr unsigned kChains = 8;  // sums that do not wait for each other

__global__ void copy(const float4* from, float4* to, size_t n)
{
    const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) {
        to[i] = from[i];
    }
}

__global__ void multiply_add(float* out, float factor)
{
    float sum[kChains];
    for (unsigned c = 0; c < kChains; ++c) {
        sum[c] = float(threadIdx.x + c);
    }
    for (unsigned i = 0; i < kSteps; ++i) {
#pragma unroll
        for (unsigned c = 0; c < kChains; ++c) {
            sum[c] = fmaf(sum[c], factor, factor);
        }
    }
    float total = 0.0f;
    for (unsigned c = 0; c < kChains; ++c) {
        total += sum[c];
    }
    out[size_t(blockIdx.x) * blockDim.x + threadIdx.x] = total;
}

template <typename Work>
double best_seconds(const Work& work)
{
    cudaEvent_t begin, end;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    float best = 1e30f;
    for (int i = 0; i < kTimes; ++i) {
        cudaEventRecord(begin);
        work();
        cudaEventRecord(end);
        cudaEventSynchronize(end);
        float milliseconds = 0.0f;
        cudaEventElapsedTime(&milliseconds, begin, end);
        best = milliseconds < best ? milliseconds : best;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return 1e-3 * best;
}

}  // namespace

// 0, or CUDA's error code.
extern "C" __attribute__((visibility("default"))) int nerf_cuda_ceilings(double* bytes_per_second,
                                                                         double* flops_per_second)
{
    float4 *from = nullptr, *to = nullptr;
    cudaMalloc(reinterpret_cast<void**>(&from), kFloats * sizeof(float));
    cudaMalloc(reinterpret_cast<void**>(&to), kFloats * sizeof(float));
    const size_t n = kFloats / 4;
    const auto blocks = static_cast<unsigned>(n / kThreads);
    *bytes_per_second =
        2.0 * kFloats * sizeof(float) / best_seconds([&] { copy<<<blocks, kThreads>>>(from, to, n); });
    constexpr unsigned kBlocks = 8192;
    const double flops = 2.0 * kSteps * kChains * kThreads * kBlocks;
    *flops_per_second =
        flops / best_seconds([&] { multiply_add<<<kBlocks, kThreads>>>(reinterpret_cast<float*>(to), 0.999f); });
    const int error = cudaDeviceSynchronize() != cudaSuccess ? cudaPeekAtLastError() : cudaGetLastError();
    cudaFree(from);
    cudaFree(to);
    return error;
}
