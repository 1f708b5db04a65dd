// What the depthwise kernels of a convolution share (groups = in_channels = out_channels, dilation 1). The text of one of them follows.
//
// Each plane is a problem of its own with little to reuse, so what pays is reading every element once, four at a time: an
// invocation owns a strip of COLUMNS columns and slides down it, with the sums of all rows that the row at hand takes part in.
//
// Constants (host prepends):
//   A_TYPE, B_TYPE, from_a, from_b   element types of bindings 0 and 1, and an element as f32 (see `ops/product.rs`)
//   KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH, PADDING_WIDTH   of the convolution
//   COLUMNS = 8 or 4       columns of the result (weight gradient: of dy) that an invocation owns
//   WHOLE_X, WHOLE_Y: bool rows of the images, of the convolution's result, are multiples of 4 long: read as quads
//   GROUP = 8              invocations of a workgroup (GPUs: 64)

struct Params {
    // batch * channels
    planes: u32,
    channels: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    padding_height: u32,
    // Rows of a strip that an invocation slides over, or (weight gradient) strips that it adds up.
    each: u32,
    splits: u32,
}

@group(0) @binding(15) var<uniform> p: Params;

const TAPS: u32 = KERNEL_HEIGHT * KERNEL_WIDTH;
