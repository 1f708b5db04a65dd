// The lanes of a workgroup take a part of a channel together for `batch_norm/fold.wgsl`. The entry is `shared/team.wgsl`.

fn work(i: u32, lane: u32) {
    fold(i, lane);
}
