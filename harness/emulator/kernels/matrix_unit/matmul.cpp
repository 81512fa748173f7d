// Matmul as the matrix unit accumulates it: takes the operands apart, shares panels of the result out to threads, and puts
// partial sums away between K blocks.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "device.h"
#include "exact.h"
#include "lanes.h"
#include "loose_tiles.h"
#include "parallel.h"
#include "partials.h"

extern "C" {

// in0 [batch][m][k] and dest [batch][m][n] lie row by row, in1 [batch][k][n] with any strides, in elements (a batch stride
// of 0: all use the same). A wide operand is float32 holding TF32, another is bfloat16.
struct Product {
    const void *in0, *in1;
    float* dest;
    int64_t batch, m, k, n;
    int64_t in1_stride[3];   // of batch, k and n
    int64_t block;           // k of a K block
    int32_t in0_wide, in1_wide;
    int32_t phases, fp32_dest;
    int32_t exact;           // every rule, else Dest is added up loosely
    int32_t partial;         // format of partial sums, a DataType
    int32_t l1_acc;          // blocks are added up in L1
    int32_t partial_result;  // the last block too leaves Dest as a partial sum
    int32_t onto_dest;       // goes on from what dest holds, else from zero
    int32_t threads;
};

}  // extern "C"

namespace {

constexpr long round_up(long x, long to) { return (x + to - 1) / to * to; }

inline float as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline Dest dest_of(const Product& p) {
    if (p.exact) return p.fp32_dest ? Dest::k32 : Dest::k16;
    return p.fp32_dest ? Dest::kLoose32 : Dest::kLoose16;
}

// Whether the arithmetic in floating point is right for these operands and this Dest: nothing comes near the smallest
// exponent, the last phase's products 12 below the first's, nor the largest, where Inf is an ordinary number.
inline bool ordinary(Range in0, Range in1, Range dest) {
    return in0.least() + in1.least() - 127 - 12 >= kLeastExponent && in0.most() + in1.most() - 127 <= kMostExponent &&
           dest.least() >= kLeastExponent && dest.most() <= kMostExponent;
}

// in0 taken apart, its rows in blocks as Operands has them: k padded to whole tiles, the rows of a batch to whole blocks.
struct Rows {
    long k;
    std::vector<float> slices;
    std::vector<uint32_t> exponent;
    std::vector<Range> range;  // of each block
    std::vector<uint16_t> tiles[2];  // slices as AMX tiles read them, the rows of a batch padded to whole tiles; then alone
};

// Rows taken apart for the arithmetic in integers.
struct IntegerRows {
    std::vector<int16_t> exponent, slice[2];
};

// One row's Src values as float32 bits, `stride` words apart; the matrix unit takes a denormal for zero.
void read_row(const Product& p, long row, uint32_t* bits, long stride) {
    const auto put = [&](long k, uint32_t word) { bits[k * stride] = word & lanes::kInf ? word : 0; };
    if (p.in0_wide) {
        const uint32_t* values = static_cast<const uint32_t*>(p.in0) + row * p.k;
        for (long k = 0; k < p.k; ++k) put(k, values[k]);
    } else {
        const uint16_t* values = static_cast<const uint16_t*>(p.in0) + row * p.k;
        for (long k = 0; k < p.k; ++k) put(k, (uint32_t)values[k] << 16);
    }
}

// A Src value's exponent for the first phase: less its bias, in both halves of a word.
inline uint32_t exponent_of(uint32_t bits) {
    const int exponent = (bits & lanes::kInf ? (int)(bits >> 23 & 255) : kNoExponent) - 127;
    return (exponent & 0xFFFF) * 0x10001u;
}

// `bits` [k][row] of a block.
template <int Slices>
Range take_block_apart(const std::vector<uint32_t>& bits, Dest dest, int phases, float* slices, uint32_t* exponent) {
    const bool whole = dest == Dest::kLoose32 && phases > 3;
    const float lower = dest == Dest::kLoose16 || dest == Dest::kLoose32 ? 1 : 1 / kLowerB;
    Range range;
    for (size_t i = 0; i < bits.size(); i += kBlock)
        for (int r = 0; r < kBlock; ++r) {
            const uint32_t word = bits[i + r];
            const float high = as_float(word & kSideB.high);
            const float all = as_float(word & kSideB.all);
            slices[i * Slices + r] = whole ? all : high;
            if (Slices > 1) slices[i * Slices + kBlock + r] = (all - high) * lower;
            exponent[i + r] = exponent_of(word);
            range.add(word);
        }
    return range;
}

// Takes all of in0 apart.
void take_apart(const Product& p, Rows& rows) {
    const long blocks_each = round_up(p.m, kBlock) / kBlock, blocks = p.batch * blocks_each;
    const long slices = slices_b(dest_of(p), p.phases);
    const long size = kBlock * rows.k;
    rows.slices.resize(blocks * size * slices);
    rows.exponent.resize(blocks * size);
    rows.range.resize(blocks);
    const long chunk = 8;
    parallel_for(p.threads, (blocks + chunk - 1) / chunk, [&](long item) {
        std::vector<uint32_t> bits(size);
        for (long block = item * chunk; block < std::min(blocks, (item + 1) * chunk); ++block) {
            const long batch = block / blocks_each, first = block % blocks_each * kBlock;
            const long count = std::min<long>(kBlock, p.m - first);
            if (count < kBlock) std::fill(bits.begin(), bits.end(), 0);
            for (long r = 0; r < count; ++r) read_row(p, batch * p.m + first + r, &bits[r], kBlock);
            const auto take = slices > 1 ? take_block_apart<2> : take_block_apart<1>;
            rows.range[block] = take(bits, dest_of(p), p.phases, &rows.slices[block * size * slices], &rows.exponent[block * size]);
        }
    });
}

constexpr long kTileRows = 16;  // of an AMX tile

// Takes all of in0 apart for AMX tiles.
void take_apart_for_tiles(const Product& p, Rows& rows) {
    const long padded = round_up(p.m, kTileRows), blocks_each = round_up(p.m, kBlock) / kBlock;
    const int slices = slices_b(dest_of(p), p.phases);
    for (int s = 0; s < slices; ++s) rows.tiles[s].resize(p.batch * padded * rows.k);
    rows.range.assign(p.batch * blocks_each, Range());
    parallel_for(p.threads, p.batch * (padded / kTileRows), [&](long item) {
        const long batch = item / (padded / kTileRows), first = item % (padded / kTileRows) * kTileRows;
        for (long row = first; row < first + kTileRows; ++row) {
            const long at = (batch * padded + row) * rows.k, seen = row < p.m ? p.k : 0;
            uint16_t* const to[2] = {&rows.tiles[0][at], slices > 1 ? &rows.tiles[1][at] : nullptr};
            for (int s = 0; s < slices; ++s) std::fill(to[s] + seen, to[s] + rows.k, 0);
            if (!seen) continue;
            const uint16_t* from = static_cast<const uint16_t*>(p.in0) + (batch * p.m + row) * p.k;
            rows.range[batch * blocks_each + row / kBlock].add(tiles_take_apart_b(from, p.k, dest_of(p), p.phases, to));
        }
    });
}

// What a thread needs for one panel.
struct Workspace {
    std::vector<uint32_t> panel;
    std::vector<uint32_t> exponent;
    std::vector<float> slices;
    std::vector<uint32_t> tiles[2];
    IntegerRows integers;
    alignas(64) float dest[kRows * kPanel], stored[kRows * kPanel];
};

// The matrix unit takes a denormal for zero.
void flush_denormals(std::vector<uint32_t>& panel, bool wide) {
    if (wide)
        for (uint32_t& bits : panel) bits = bits & lanes::kInf ? bits : 0;
    else
        for (uint32_t& pair : panel)
            pair = (pair & 0x7F80u ? pair & 0xFFFFu : 0) | (pair & lanes::kInf ? pair & 0xFFFF0000u : 0);
}

// Returns the range of the panel's exponents.
Range take_panel_apart(const uint32_t* panel, const Product& p, long k, Workspace& work) {
    work.exponent.resize(k * kPanel / 2);
    work.slices.resize(k * kPanel * slices_a(dest_of(p), p.phases));
    return device_take_apart_a(panel, p.in1_wide, k, dest_of(p), p.phases, work.slices.data(), work.exponent.data());
}

class Matmul {
   public:
    Matmul(const Product& p, Rows& rows) : p_(p), k_(round_up(p.k, kTile)), rows_(rows) {
        rows_.k = k_;
        tiles_ = !p.in0_wide && !p.in1_wide && tiles_multiply(dest_of(p));
        tiles_ ? take_apart_for_tiles(p_, rows_) : take_apart(p_, rows_);
        block_ = std::min(round_up(p.block, kTile), k_);
        blocks_ = (k_ + block_ - 1) / block_;
        in_l1_ = p.l1_acc && blocks_ > (p.partial_result ? 1 : 2);
    }

    long run() {
        const long panels = round_up(p_.n, kPanel) / kPanel, products = p_.batch * panels;
        // Enough items that no thread waits long for the last one.
        const long chunks = (p_.m + kRows - 1) / kRows;
        const long shares = std::min<long>(chunks, std::max<long>(1, 4 * p_.threads / products));
        const long chunks_each = (chunks + shares - 1) / shares;
        std::vector<long> struck(products * shares);
        parallel_for(p_.threads, products * shares, [&](long item) {
            const long product = item / shares, first = item % shares * chunks_each * kRows;
            struck[item] = panel(product / panels, product % panels, first,
                                 std::min<long>(p_.m, first + chunks_each * kRows));
        });
        long total = 0;
        for (long count : struck) total += count;
        return total;
    }

   private:
    Matrix in1(long batch) const {
        const auto [batch_stride, k_stride, n_stride] = p_.in1_stride;
        const char* data = static_cast<const char*>(p_.in1) + batch * batch_stride * (p_.in1_wide ? 4 : 2);
        return {data, p_.in1_wide != 0, p_.k, p_.n, k_stride, n_stride};
    }

    // Rows [first, last) of one panel of the result.
    long panel(long batch, long index, long first, long last) const {
        static thread_local Workspace work;
        const Matrix matrix = in1(batch);
        work.panel.resize(matrix.panel_words());
        matrix.lay_out(index, work.panel.data());
        flush_denormals(work.panel, matrix.wide);
        const uint32_t* panel = work.panel.data();
        const Range range = tiles_ ? tiles_take_apart_a(panel, k_, dest_of(p_), p_.phases, work.tiles)
                                   : take_panel_apart(panel, p_, k_, work);
        const long width = std::min<long>(kPanel, p_.n - index * kPanel);
        long struck = 0;
        for (long row = first; row < last; row += kRows) {
            const long rows = std::min<long>(kRows, last - row), at = batch * p_.m + row;
            const long block_at = (batch * round_up(p_.m, kBlock) + row) / kBlock;
            float* dest = p_.dest + at * p_.n + index * kPanel;
            std::memset(work.dest, 0, round_up(rows, kTileRows) * kPanel * sizeof(float));
            if (p_.onto_dest)
                for (long r = 0; r < rows; ++r)
                    for (long n = 0; n < width; ++n)
                        work.dest[r * kPanel + n] = lanes::bits(dest[r * p_.n + n]) & lanes::kInf ? dest[r * p_.n + n] : 0;
            const bool integers = !ordinary(range_of(block_at, rows), range, range_of_dest(work.dest, rows));
            if (integers) take_apart_in_integers(at, rows, work.integers);
            for (long block = 0; block < blocks_; ++block) {
                const long end = std::min<long>(k_, (block + 1) * block_);
                if (tiles_ && !integers)
                    accumulate_on_tiles(work, rows, batch * round_up(p_.m, kTileRows) + row, block * block_, end);
                else
                    for (long k = block * block_; k < end; k += kSpan)
                        struck += accumulate(work, rows, block_at, panel, k, std::min<long>(end, k + kSpan), integers);
                put_away(work, rows, block);
            }
            for (long r = 0; r < rows; ++r)
                std::memcpy(dest + r * p_.n, work.dest + r * kPanel, width * sizeof(float));
        }
        return struck;
    }

    Range range_of(long block, long rows) const {
        Range range;
        for (long r = 0; r < rows; r += kBlock) range.add(rows_.range[block + r / kBlock]);
        return range;
    }

    static Range range_of_dest(const float* dest, long rows) {
        Range range;
        for (long i = 0; i < rows * kPanel; ++i) range.add(lanes::bits(dest[i]));
        return range;
    }

    void take_apart_in_integers(long at, long rows, IntegerRows& out) const {
        for (auto* part : {&out.exponent, &out.slice[0], &out.slice[1]}) part->resize(rows * k_);
        std::vector<uint32_t> bits(k_);
        for (long r = 0; r < rows; ++r) {
            read_row(p_, at + r, bits.data(), 1);
            exact_take_apart_b(bits.data(), k_, &out.exponent[r * k_], &out.slice[0][r * k_], &out.slice[1][r * k_]);
        }
    }

    long accumulate(Workspace& work, long rows, long block, const uint32_t* panel, long first, long last,
                    bool integers) const {
        if (integers) {
            const auto& [exponent, slice] = work.integers;
            const ExactRows b{exponent.data(), {slice[0].data(), slice[1].data()}, k_};
            return exact_accumulate(work.dest, rows, b, panel, p_.in1_wide, first, last, p_.phases, p_.fp32_dest);
        }
        const long sides = slices_b(dest_of(p_), p_.phases);
        long struck = 0;
        for (long row = 0; row < rows; row += kBlock) {
            const long offset = block * kBlock * k_ + row * k_;
            const Operands operands{work.slices.data(), &rows_.slices[offset * sides], work.exponent.data(),
                                    &rows_.exponent[offset]};
            struck += device_accumulate(work.dest + row * kPanel, operands, first, last, dest_of(p_), p_.phases);
        }
        return struck;
    }

    void accumulate_on_tiles(Workspace& work, long rows, long row, long first, long last) const {
        TileOperands operands{{}, {}, k_};
        for (int s = 0; s < slices_b(dest_of(p_), p_.phases); ++s) operands.b[s] = &rows_.tiles[s][row * k_];
        for (int s = 0; s < slices_a(dest_of(p_), p_.phases); ++s) operands.a[s] = work.tiles[s].data();
        tiles_accumulate(work.dest, round_up(rows, kTileRows), operands, first, last, dest_of(p_), p_.phases);
    }

    // After a K block: leaves in work.dest what the next one, or the caller, finds in Dest.
    void put_away(Workspace& work, long rows, long block) const {
        const bool last = block == blocks_ - 1, kept = last && !p_.partial_result;
        const auto format = static_cast<partials::Format>(p_.partial);
        if (kept || (!in_l1_ && (format == partials::kFp32 || (format == partials::kBf16 && !p_.fp32_dest)))) return;
        // With sums in L1 the next block starts from zero, unless it is the last and stays in Dest.
        const bool reloads = !in_l1_ || last || (block == blocks_ - 2 && !p_.partial_result);
        for (long at = 0; at < rows * kPanel; at += 16) {
            lanes::W group[partials::kGroupVectors];
            std::memcpy(group, work.dest + at, sizeof group);
            if (!in_l1_ || block == 0) partials::reload(group, format);
            for (int v = 0; v < partials::kGroupVectors; ++v) {
                const long i = at + v * lanes::kLanes;
                if (in_l1_ && block > 0) group[v] = partials::added(lanes::load(work.stored + i), group[v], format);
                if (in_l1_) lanes::store(work.stored + i, group[v]);
                lanes::store(work.dest + i, reloads ? group[v] : lanes::W{});
            }
        }
    }

    Product p_;
    long k_, block_, blocks_;
    bool in_l1_, tiles_;
    Rows& rows_;
};

}  // namespace

// Returns how often the fp32 Dest erratum struck (0 in mode DEVICE, which does not model it).
extern "C" int64_t tt_matmul(const Product* product) {
    static thread_local Rows rows;  // kept: fresh memory would cost a tenth of a large product
    return Matmul(*product, rows).run();
}
