// For `optim/average_form.wgsl`: the average is there.

fn form(i: u32, count: u32) {}
