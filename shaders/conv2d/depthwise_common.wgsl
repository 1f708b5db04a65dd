// What the depthwise kernels of a convolution share (groups = in_channels = out_channels, dilation 1).
//
// Each plane is a problem of its own with little to reuse, so what pays is reading every element once, four at a time: an
// invocation owns a strip of COLUMNS columns and slides down it, with the sums of all rows that the row at hand takes part in.
// `from_a` and `from_b` give an element of the two operands as f32 (`ops/product.rs`); the entry is that of `shared/each.wgsl`.
//
// Constants:
//   KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH, PADDING_WIDTH   of the convolution
//   COLUMNS = 8 or 4       columns of the result (weight gradient: of dy) that an invocation owns
//   WHOLE_X, WHOLE_Y: bool rows of the images, of the convolution's result, are multiples of 4 long: read as quads
//   GROUP = 8              invocations of a workgroup (GPUs: 64)

const TAPS: u32 = KERNEL_HEIGHT * KERNEL_WIDTH;
