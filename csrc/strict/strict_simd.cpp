#include "strict/strict_simd.h"

#include <algorithm>
#include <cstring>

#include "strict/strict_memory.h"

namespace nerf_metal::strict {
namespace {

constexpr size_t kSide = 8;  // of a matrix

const char* name_of(Collective what)
{
    static const char* const names[] = {
        "threadgroup_barrier",
        "simdgroup_barrier",
        "simd_sum",
        "simd_product",
        "simd_prefix_exclusive_sum",
        "simd_prefix_exclusive_product",
        "simd_shuffle_down",
        "simd_broadcast",
        "make_filled_simdgroup_matrix",
        "simdgroup_load",
        "simdgroup_store",
        "simdgroup_multiply",
        "simdgroup_multiply_accumulate",
    };
    return names[static_cast<unsigned>(what)];
}

void reduce(Lane* lanes, size_t n, Collective what)
{
    float total = what == Collective::product ? 1.0f : 0.0f;
    for (size_t i = 0; i < n; ++i) {
        total = what == Collective::product ? total * lanes[i].value : total + lanes[i].value;
    }
    for (size_t i = 0; i < n; ++i) {
        lanes[i].value = total;
    }
}

void scan(Lane* lanes, size_t n, Collective what)
{
    const bool product = what == Collective::prefix_exclusive_product;
    float total = product ? 1.0f : 0.0f;
    for (size_t i = 0; i < n; ++i) {
        const float before = total;
        total = product ? total * lanes[i].value : total + lanes[i].value;
        lanes[i].value = before;
    }
}

void exchange(Lane* lanes, size_t n, Collective what)
{
    float in[kSimdWidth];
    for (size_t i = 0; i < n; ++i) {
        in[i] = lanes[i].value;
    }
    for (size_t i = 0; i < n; ++i) {
        // Metal leaves lanes past the end undefined: NaN, so that a use of them shows.
        const size_t from = (what == Collective::shuffle_down ? i : 0) + lanes[i].operand;
        lanes[i].value = from < n ? in[from] : __builtin_nanf("");
    }
}

// d = a b + c, the terms added to c in order; without a c it is 0. The launcher sees to whole SIMD-groups.
void multiply(Lane* lanes)
{
    float a[kSide * kSide], b[kSide * kSide], d[kSide * kSide];
    for (size_t i = 0; i < kSimdWidth; ++i) {
        std::memcpy(a + 2 * i, lanes[i].a, sizeof lanes[i].a);
        std::memcpy(b + 2 * i, lanes[i].b, sizeof lanes[i].b);
        std::memcpy(d + 2 * i, lanes[i].c, sizeof lanes[i].c);
    }
    for (size_t row = 0; row < kSide; ++row) {
        for (size_t k = 0; k < kSide; ++k) {
            for (size_t column = 0; column < kSide; ++column) {
                d[kSide * row + column] += a[kSide * row + k] * b[kSide * k + column];
            }
        }
    }
    for (size_t i = 0; i < kSimdWidth; ++i) {
        std::memcpy(lanes[i].c, d + 2 * i, sizeof lanes[i].c);
    }
}

std::string call_of(const Lane* lanes)
{
    return std::string(name_of(lanes[0].at)) + " on line " + std::to_string(lanes[0].line);
}

std::string other_arguments(const Lane* lanes, size_t i)
{
    return call_of(lanes) + " has other arguments in thread " + std::to_string(lanes[i].ids.index_in_group) +
           " than in thread " + std::to_string(lanes[0].ids.index_in_group);
}

std::string carry_out_matrix(Lane* lanes)
{
    if (lanes[0].at == Collective::matrix_multiply || lanes[0].at == Collective::matrix_multiply_accumulate) {
        multiply(lanes);
        return "";
    }
    for (size_t i = 1; i < kSimdWidth; ++i) {
        if (std::memcmp(&lanes[i].arguments, &lanes[0].arguments, sizeof(MatrixArguments)) != 0) {
            return other_arguments(lanes, i);
        }
    }
    // Metal's documents do not say whether the origin is counted before or after transposing.
    if (lanes[0].arguments.origin_x != 0 || lanes[0].arguments.origin_y != 0) {
        return call_of(lanes) + " must have the matrix origin (0, 0); move the pointer instead";
    }
    return "";
}

}  // namespace

std::string carry_out(Lane* lanes, size_t n)
{
    const Collective what = lanes[0].at;
    switch (what) {
        case Collective::threadgroup_barrier:
        case Collective::simdgroup_barrier:
            return "";
        case Collective::sum:
        case Collective::product:
            reduce(lanes, n, what);
            return "";
        case Collective::prefix_exclusive_sum:
        case Collective::prefix_exclusive_product:
            scan(lanes, n, what);
            return "";
        case Collective::shuffle_down:
        case Collective::broadcast:
            for (size_t i = 1; i < n; ++i) {
                if (lanes[i].operand != lanes[0].operand) {  // Metal wants the same lane or distance of all
                    return other_arguments(lanes, i);
                }
            }
            exchange(lanes, n, what);
            return "";
        default:
            return carry_out_matrix(lanes);
    }
}

std::string divergence(const std::vector<Lane>& lanes)
{
    const auto place = [](const Lane& lane) {
        if (lane.state == State::done) {
            return std::string("has left the kernel");
        }
        return std::string("is at ") + name_of(lane.at) + " on line " + std::to_string(lane.line);
    };
    for (size_t i = 0; i < lanes.size(); ++i) {
        const Lane& a = lanes[i];
        if (a.state != State::waiting) {
            continue;
        }
        const bool whole_group = a.at == Collective::threadgroup_barrier;
        const size_t first = whole_group ? 0 : i / kSimdWidth * kSimdWidth;
        const size_t last = whole_group ? lanes.size() : std::min(first + kSimdWidth, lanes.size());
        for (size_t j = first; j < last; ++j) {
            const Lane& b = lanes[j];
            if (b.state == State::done || b.at != a.at || b.line != a.line) {
                return "divergent collective: thread " + std::to_string(i) + " " + place(a) + ", thread " +
                       std::to_string(j) + " " + place(b);
            }
        }
    }
    return "no thread can go on";
}

}  // namespace nerf_metal::strict
