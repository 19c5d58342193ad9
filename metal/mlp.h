// A small multilayer perceptron by one thread, a block of rows at a time: the block's activations stay in the
// nearest cache from the first layer to the last, and in the backward pass are worked out again.
// Equations: nerf_metal/reference/mlp.py.
#ifndef NERF_METAL_MLP_H
#define NERF_METAL_MLP_H

#include "common.h"
#include "params.h"
#include "tile.h"

// Rows that a thread takes through all layers together.
constexpr constant uint MLP_ROWS = TUNING_ROWS;
constexpr constant uint MLP_WIDEST = 128u;
constexpr constant uint MLP_DEEPEST = 4u;

// Layers are [out, in] one behind the other: [width, pad_in], then [width, width], at last [pad_out, width].
struct MlpShape {
    uint in;
    uint width;
    uint out;
    uint some_out;  // those of them that are not padding, rounded up to what a product takes
    uint hidden;
};

inline bool mlp_is_tiles(uint n, uint pad)
{
    return n > 0u && n <= pad && pad <= MLP_WIDEST && pad % TILE_SIDE == 0u;
}

// Whether the shape is one that the kernels handle: nothing may lead out of their own memory.
inline bool mlp_is_handled(constant MlpParams& p)
{
    return mlp_is_tiles(p.n_in, p.pad_in) && mlp_is_tiles(p.n_out, p.pad_out) && mlp_is_tiles(p.width, p.width) &&
           p.n_hidden > 0u && p.n_hidden <= MLP_DEEPEST;
}

inline MlpShape mlp_shape(constant MlpParams& p)
{
    MlpShape s;
    s.in = p.pad_in;
    s.width = p.width;
    s.out = p.pad_out;
    s.some_out = (p.n_out + 1u) & ~1u;
    s.hidden = p.n_hidden;
    return s;
}

// Where layer l's weights begin, and how many there are in all (l = hidden + 1).
inline uint mlp_weights_before(MlpShape s, uint l)
{
    const uint square = s.width * s.width;
    const uint first = l == 0u ? 0u : s.width * s.in;
    const uint between = l < 2u ? 0u : (min(l, s.hidden) - 1u) * square;
    return first + between + (l > s.hidden ? s.width * s.out : 0u);
}

// n numbers one behind the other, a tile at a time: the last one, where it is not whole, as a vector under a mask.
template <typename To, typename From>
inline void mlp_copy(To to, From from, uint n)
{
    for (; n >= TILE_SIDE; n -= TILE_SIDE) {
        for (uint j = 0u; j < TILE_SIDE; ++j) {
            to[j] = from[j];
        }
        to += TILE_SIDE;
        from += TILE_SIDE;
    }
    if (n > 0u) {
        for (uint j = 0u; j < TILE_SIDE; ++j) {
            if (j < n) {
                to[j] = from[j];
            }
        }
    }
}

// Columns of rows to the block's own memory, with zeros to the right of them and below the last row.
inline void mlp_read(thread float* to, uint pad, device const float* from, uint columns, uint stride, uint n)
{
    if (columns < pad || n < MLP_ROWS) {
        for (uint j = 0u; j < MLP_ROWS * pad; ++j) {
            to[j] = 0.0f;
        }
    }
    if (columns == pad && columns == stride) {
        mlp_copy(to, from, n * pad);
        return;
    }
    for (uint r = 0u; r < n; ++r) {
        mlp_copy(to + r * pad, from + r * stride, columns);
    }
}

inline void mlp_write(device float* to, uint stride, thread const float* from, uint columns, uint n)
{
    if (stride == columns) {
        mlp_copy(to, from, n * columns);
        return;
    }
    for (uint r = 0u; r < n; ++r) {
        mlp_copy(to + r * stride, from + r * columns, columns);
    }
}

// Rows of `columns` without the padding behind them, which each leaves where the next one begins.
inline thread float* mlp_pack(thread float* to, thread float* from, uint pad, uint columns)
{
    if (columns == pad) {
        return from;
    }
    for (uint r = 0u; r < MLP_ROWS; ++r) {
        mlp_copy(to + r * columns, from + r * pad, pad);
    }
    return to;
}

inline void mlp_sigmoid(thread float* y, uint n)
{
    for (uint j = 0u; j < n; ++j) {
        y[j] = 1.0f / (1.0f + exp(-y[j]));
    }
}

// Hidden layer l of a block, from its input's activations.
inline void mlp_hidden(thread float* to, thread const float* from, device const float* weights_t,
                       device const float* biases, MlpShape s, uint l)
{
    const uint in = l == 0u ? s.in : s.width;
    tile_product<false, TILE_RELU>(to, s.width, from, in, 1u, weights_t + mlp_weights_before(s, l), s.width,
                                   MLP_ROWS, s.width, in, biases + l * s.width, to);
}

inline void mlp_forward_rows(device const float* x, device const float* weights_t, device const float* biases,
                             device float* y, constant MlpParams& p, uint first, uint count)
{
    const MlpShape s = mlp_shape(p);
    float input[MLP_ROWS * MLP_WIDEST];
    float other[MLP_ROWS * MLP_WIDEST];
    for (uint done = 0u; done < count; done += MLP_ROWS) {
        const uint row = first + done;
        const uint n = min(MLP_ROWS, count - done);
        thread float* from = input;
        thread float* to = other;
        mlp_read(from, s.in, x + row * p.x_stride, p.n_in, p.x_stride, n);
        fetch_rows_soon(x + (row + n) * p.x_stride, p.n_in, p.x_stride, min(MLP_ROWS, count - done - n));
        for (uint l = 0u; l < s.hidden; ++l) {
            mlp_hidden(to, from, weights_t, biases, s, l);
            thread float* swap = from;
            from = to;
            to = swap;
        }
        device const float* last = weights_t + mlp_weights_before(s, s.hidden);
        device const float* bias = biases + s.hidden * s.width;
        if (p.out_activation == 1u) {
            tile_product<false, TILE_RELU>(to, s.out, from, s.width, 1u, last, s.out, MLP_ROWS, s.out, s.width,
                                           bias, to);
        } else {
            tile_product<false, TILE_AS_IS>(to, s.out, from, s.width, 1u, last, s.out, MLP_ROWS, s.out, s.width,
                                            bias, to);
        }
        thread float* packed = mlp_pack(from, to, s.out, p.n_out);
        if (p.out_activation == 2u) {
            mlp_sigmoid(packed, MLP_ROWS * p.n_out);
        }
        mlp_write(y + row * p.y_stride, p.y_stride, packed, p.n_out, n);
    }
}

// dL/d(what the output's activation was given), from the output itself.
inline void mlp_output_slope(thread float* grad, thread const float* y, uint activation, uint n)
{
    if (activation == 1u) {
        for (uint j = 0u; j < n; ++j) {
            grad[j] = y[j] > 0.0f ? grad[j] : 0.0f;
        }
    } else if (activation == 2u) {
        for (uint j = 0u; j < n; ++j) {
            grad[j] *= y[j] * (1.0f - y[j]);
        }
    }
}

inline void mlp_add_bias_grad(device float* to, thread const float* grad, uint columns)
{
    for (uint tile = 0u; tile < columns; tile += TILE_SIDE) {
        float sum[TILE_SIDE];
        mlp_copy(sum, to + tile, TILE_SIDE);
        for (uint r = 0u; r < MLP_ROWS; ++r) {
            thread const float* row = grad + r * columns + tile;
            for (uint j = 0u; j < TILE_SIDE; ++j) {
                sum[j] += row[j];
            }
        }
        mlp_copy(to + tile, sum, TILE_SIDE);
    }
}

// Back through layer l: adds to its gradients, and leaves in `below` dL/d(its input), 0 where `gate` (that input,
// a ReLU's output) is not above 0.
inline void mlp_weight_grad(device float* grad_weights, device float* grad_biases, thread const float* grad,
                            thread const float* input, MlpShape s, uint l, uint has_bias)
{
    const uint in = l == 0u ? s.in : s.width;
    const uint out = l == s.hidden ? s.out : s.width;
    device float* to = grad_weights + mlp_weights_before(s, l);
    const uint rows = l == s.hidden ? s.some_out : s.width;
    tile_product<true, TILE_AS_IS>(to, in, grad, 1u, out, input, in, rows, in, MLP_ROWS, input, input);
    if (has_bias != 0u) {
        mlp_add_bias_grad(grad_biases + l * s.width, grad, out);
    }
}

// The gradients of rows [first, first + count): those of x written, those of weights and biases added.
inline void mlp_backward_rows(device const float* x, device const float* weights, device const float* weights_t,
                              device const float* biases, device const float* y, device const float* grad_y,
                              device float* grad_x, device float* grad_weights, device float* grad_biases,
                              constant MlpParams& p, uint first, uint count)
{
    const MlpShape s = mlp_shape(p);
    float acts[(MLP_DEEPEST + 1u) * MLP_ROWS * MLP_WIDEST];  // of every layer's input, one behind the other
    float grads[2u * MLP_ROWS * MLP_WIDEST];
    float output[MLP_ROWS * MLP_WIDEST];
    float none[MLP_WIDEST] = {};
    for (uint done = 0u; done < count; done += MLP_ROWS) {
        const uint row = first + done;
        const uint n = min(MLP_ROWS, count - done);
        thread float* from = acts;
        const uint next = min(MLP_ROWS, count - done - n);
        mlp_read(from, s.in, x + row * p.x_stride, p.n_in, p.x_stride, n);
        fetch_rows_soon(x + (row + n) * p.x_stride, p.n_in, p.x_stride, next);
        uint columns = s.in;
        for (uint l = 0u; l < s.hidden; ++l) {
            thread float* to = from + MLP_ROWS * columns;
            mlp_hidden(to, from, weights_t, biases, s, l);
            from = to;
            columns = s.width;
        }
        thread float* grad = grads;
        thread float* below = grads + MLP_ROWS * MLP_WIDEST;
        mlp_read(grad, s.out, grad_y + row * p.n_out, p.n_out, p.n_out, n);
        fetch_rows_soon(grad_y + (row + n) * p.n_out, p.n_out, p.n_out, next);
        if (p.out_activation != 0u) {
            mlp_read(output, s.out, y + row * p.y_stride, p.n_out, p.y_stride, n);
            mlp_output_slope(grad, output, p.out_activation, MLP_ROWS * s.out);
        }
        for (uint l = s.hidden;; --l) {
            mlp_weight_grad(grad_weights, grad_biases, grad, from, s, l, p.has_bias);
            device const float* layer = weights + mlp_weights_before(s, l);
            const uint out = l == s.hidden ? s.out : s.width;
            const uint depth = l == s.hidden ? s.some_out : s.width;
            if (l == 0u) {
                if (p.has_grad_x != 0u) {
                    tile_product<false, TILE_AS_IS>(below, s.in, grad, out, 1u, layer, s.in, MLP_ROWS, s.in, depth,
                                                    none, none);
                    mlp_write(grad_x + row * p.n_in, p.n_in, mlp_pack(grad, below, s.in, p.n_in), p.n_in, n);
                }
                break;
            }
            tile_product<false, TILE_GATE>(below, s.width, grad, out, 1u, layer, s.width, MLP_ROWS, s.width, depth,
                                           none, from);
            from -= MLP_ROWS * (l == 1u ? s.in : s.width);
            thread float* swap = grad;
            grad = below;
            below = swap;
        }
    }
}

#endif
