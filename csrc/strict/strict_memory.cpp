#include "strict/strict_memory.h"

namespace nerf_metal::strict {
namespace {

constexpr size_t kSharedLimit = 32 << 10;  // threadgroup memory of every Apple GPU

}  // namespace

void ThreadgroupMemory::reset(size_t lanes)
{
    arrays_.clear();
    bytes_ = 0;
    epoch_ = 0;
    simd_epoch_.assign((lanes + kSimdWidth - 1) / kSimdWidth, 0);
}

// Whether nothing orders two accesses. A threadgroup barrier does, within one SIMD-group its barrier too, and a
// thread's own accesses are in order, unless a matrix function made one of them. Other collectives order no
// memory.
bool ThreadgroupMemory::unordered(const Touch& a, const Touch& b)
{
    if (a.epoch != b.epoch) {
        return false;
    }
    if (a.lane / kSimdWidth != b.lane / kSimdWidth) {
        return true;
    }
    return a.simd_epoch == b.simd_epoch && (a.lane != b.lane || a.matrix || b.matrix);
}

void ThreadgroupMemory::remember(std::vector<Touch>& readers, const Touch& now)
{
    if (!readers.empty() && readers.front().epoch != now.epoch) {
        readers.clear();
    }
    int others = 0;
    for (Touch& reader : readers) {
        if (reader.lane / kSimdWidth != now.lane / kSimdWidth) {
            continue;
        }
        if (reader.simd_epoch != now.simd_epoch || (reader.lane == now.lane && reader.matrix == now.matrix)) {
            reader = now;
            return;
        }
        ++others;
    }
    if (others < 2) {
        readers.push_back(now);
    }
}

std::string ThreadgroupMemory::who(const Touch& touch)
{
    if (touch.matrix) {
        return "the SIMD-group of thread " + std::to_string(touch.lane / kSimdWidth * kSimdWidth);
    }
    return "thread " + std::to_string(touch.lane);
}

void* ThreadgroupMemory::cell(const SharedArray& array, size_t index, Access access, size_t lane, int line,
                              std::string& error)
{
    const bool read = access == Access::read || access == Access::matrix_read;
    const bool matrix = access == Access::matrix_read || access == Access::matrix_write;
    const Touch now{static_cast<unsigned>(lane), line, matrix, epoch_, simd_epoch_[lane / kSimdWidth]};
    const auto refuse = [&](const char* does, const char* of, const std::string& because) {
        error = who(now) + " " + does + " " + array.name + "[" + std::to_string(index) + "]" + of + " on line " +
                std::to_string(line) + ", " + because;
        return nullptr;
    };
    const auto since = [](const Touch& other, const char* has) {
        return "which " + who(other) + " has " + has + " on line " + std::to_string(other.line) +
               " since the last barrier";
    };
    const char* const does = read ? "reads" : "writes";
    if (index >= array.count) {
        return refuse("uses", "", "but the array has " + std::to_string(array.count) + " elements");
    }
    Memory& memory = arrays_[array.key];
    if (memory.cells.empty()) {
        bytes_ += array.count * array.element_bytes;
        if (bytes_ > kSharedLimit) {
            error = "needs more than 32768 bytes of threadgroup memory at " + std::string(array.name);
            return nullptr;
        }
        memory.bytes.resize(array.count * array.element_bytes);
        memory.cells.resize(array.count);
    }
    Cell& cell = memory.cells[index];
    if (read && !cell.written) {
        return refuse(does, " of threadgroup memory", "which nobody has written");
    }
    if (cell.written && unordered(cell.writer, now)) {
        return refuse(does, "", since(cell.writer, "written"));
    }
    if (read) {
        remember(cell.readers, now);
    } else {
        for (const Touch& reader : cell.readers) {
            if (unordered(reader, now)) {
                return refuse(does, "", since(reader, "read"));
            }
        }
        cell.written = true;
        cell.writer = now;
    }
    return memory.bytes.data() + index * array.element_bytes;
}

}  // namespace nerf_metal::strict
