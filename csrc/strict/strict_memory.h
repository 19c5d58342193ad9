// Threadgroup memory of strict mode: every access is checked against those before it.
#pragma once
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "strict/strict_api.h"

namespace nerf_metal::strict {

constexpr unsigned kSimdWidth = 32;

class ThreadgroupMemory {
public:
    void reset(size_t lanes);
    void barrier() { ++epoch_; }
    void simdgroup_barrier(size_t simdgroup) { ++simd_epoch_[simdgroup]; }

    // The element's memory; null, and a line of text in error, for an access that Metal does not define.
    void* cell(const SharedArray& array, size_t index, Access access, size_t lane, int line, std::string& error);

private:
    // An access: by whom, on which line, and in which interval between barriers.
    struct Touch {
        unsigned lane;
        int line;
        bool matrix;  // by a matrix function: Metal does not say by which lane of the SIMD-group
        unsigned epoch, simd_epoch;
    };
    // All readers of the current interval are kept: the last one alone may be the very thread that writes, and
    // hide another.
    struct Cell {
        bool written = false;
        Touch writer{};
        std::vector<Touch> readers;
    };
    struct Memory {
        std::vector<unsigned char> bytes;
        std::vector<Cell> cells;
    };

    static bool unordered(const Touch& a, const Touch& b);
    static void remember(std::vector<Touch>& readers, const Touch& now);
    static std::string who(const Touch& touch);

    std::map<int, Memory> arrays_;
    size_t bytes_ = 0;
    unsigned epoch_ = 0;
    std::vector<unsigned> simd_epoch_;
};

}  // namespace nerf_metal::strict
