//! The ways to form the gradient of max pooling over two axes.

use super::Sizes;
use crate::kernel::{Binding, Kernel};
use crate::op::Lowering;
use crate::ops::pool::Window;
use crate::ops::shared;
use crate::ops::variants::{Rank, Variant};
use crate::shader::{File, Shader};
use crate::shaders::max_pool2d::{BACKWARD, BACKWARD_CELLS, BACKWARD_TILES, WINDOW};

/// Longest side of a tile.
const SIDE: usize = 32;
/// Bytes of a workgroup's memory that every adapter has.
const MEMORY: usize = 16 << 10;

/// A gradient as its variants see it.
pub(super) struct Site {
    pub window: Window,
    pub sizes: Sizes,
    /// How operands are read.
    pub types: Shader,
}

pub(super) static VARIANTS: &[Variant<Site>] = &[
    Variant {
        name: "max_pool2d_backward.cells",
        needs: |site, _| is_apart(&site.window).then_some(Rank::First),
        make: |site, name, _| cells(site, name),
    },
    Variant {
        name: "max_pool2d_backward.tiles",
        needs: |site, capabilities| {
            let tile = Tile::of(site);
            let fits = tile.area() >= 64 && 8 * tile.windows(&site.window) <= MEMORY;
            (!capabilities.costs().dear_barriers && !is_apart(&site.window) && fits).then_some(Rank::Good)
        },
        make: |site, name, _| tiles(site, name),
    },
    Variant {
        name: "max_pool2d_backward",
        needs: |site, _| (!is_apart(&site.window)).then_some(Rank::Usual),
        make: |site, name, _| elements(site, name),
    },
];

/// True if no element is in two windows.
fn is_apart(window: &Window) -> bool {
    (0..2).all(|axis| window.stride[axis] >= window.kernel[axis])
}

/// Rounds of loops that a cell takes (a window and what is left beside it), or an element: over the windows that cover it.
pub(super) fn rounds(window: &Window) -> usize {
    let Window { kernel: [kh, kw], stride: [sh, sw], .. } = *window;
    if is_apart(window) {
        return kh * (1 + kw) + sh * (1 + sw);
    }
    let [rows, columns] = window.covering();
    rows * (1 + columns * (1 + kh * (1 + kw)))
}

/// The kernel of this shader, but for its grid.
fn kernel(site: &Site, name: &'static str, shader: Shader, file: &'static File) -> Kernel {
    let mut kernel = Kernel::own(name, shader.file(&WINDOW).file(file));
    kernel.bind(Binding::input(0), "x", "$A_TYPE$");
    kernel.bind(Binding::input(1), "dy", "$B_TYPE$");
    kernel.bind(Binding::output(), "dx", "$OUT$");
    kernel.uniform(site.sizes);
    kernel.epilogue = true;
    kernel
}

/// An invocation a cell of stride x stride elements.
fn cells(site: &Site, name: &'static str) -> Lowering {
    let (window, sizes) = (&site.window, &site.sizes);
    let columns = Window::columns(rounds(window));
    let mut kernel = kernel(site, name, window.constants(site.types.clone(), columns), &BACKWARD_CELLS);
    let [[sh, sw], [ph, pw]] = [window.stride, window.padding];
    let cells = (sizes.in_height + ph).div_ceil(sh) * (sizes.in_width + pw).div_ceil(sw);
    kernel.workgroups = ((sizes.planes * cells) as u64).div_ceil(64);
    kernel.iterations = rounds(window) as u64;
    Lowering::kernel(kernel)
}

/// An invocation some neighbouring elements; each finds the winners of the windows that cover it.
fn elements(site: &Site, name: &'static str) -> Lowering {
    let (window, sizes) = (&site.window, &site.sizes);
    let columns = Window::columns(rounds(window));
    let mut kernel = kernel(site, name, window.constants(site.types.clone(), columns), &BACKWARD);
    let spans = sizes.planes * sizes.in_height * sizes.in_width.div_ceil(columns);
    kernel.workgroups = (spans as u64).div_ceil(64);
    kernel.iterations = (columns * (1 + rounds(window))) as u64;
    Lowering::kernel(kernel)
}

/// The elements of a plane that a workgroup owns.
struct Tile {
    height: usize,
    width: usize,
}

impl Tile {
    /// Of planes smaller than a tile it takes no more than they have.
    fn of(site: &Site) -> Tile {
        let side = |length: usize| length.next_power_of_two().min(SIDE);
        Tile { height: side(site.sizes.in_height), width: side(site.sizes.in_width) }
    }

    fn area(&self) -> usize {
        self.height * self.width
    }

    /// Windows that reach a tile, at most.
    fn windows(&self, window: &Window) -> usize {
        let along = |length: usize, axis: usize| (length + window.kernel[axis] - 2) / window.stride[axis] + 1;
        along(self.height, 0) * along(self.width, 1)
    }

    /// Lanes of its workgroup: four elements a lane.
    fn lanes(&self) -> usize {
        (self.area() / 4).clamp(64, 256)
    }
}

/// A workgroup a tile, which finds each winner once.
fn tiles(site: &Site, name: &'static str) -> Lowering {
    let (window, sizes, tile) = (&site.window, &site.sizes, Tile::of(site));
    let ([kh, kw], [sh, sw]) = (window.kernel, window.stride);
    let shader = shared::team(site.types.clone(), tile.lanes() as u32);
    let shader = shader.constant("KERNEL_HEIGHT", kh).constant("KERNEL_WIDTH", kw);
    let shader = shader.constant("STRIDE_HEIGHT", sh).constant("STRIDE_WIDTH", sw);
    let shader = shader.constant("TILE_HEIGHT", tile.height).constant("TILE_WIDTH", tile.width);
    let mut kernel = kernel(site, name, shader, &BACKWARD_TILES);
    let count = sizes.planes * sizes.in_height.div_ceil(tile.height) * sizes.in_width.div_ceil(tile.width);
    kernel.workgroups = count as u64;
    let [rows, columns] = window.covering();
    let found = tile.windows(window).div_ceil(tile.lanes()) * (1 + kh * (1 + kw));
    let summed = tile.area().div_ceil(tile.lanes()) * (1 + rows * (1 + columns));
    kernel.iterations = (found + summed + 2) as u64;
    Lowering::kernel(kernel)
}
