// The loss scale, which gradients have in them, loaded once.
//
// scaling  as in `optim/tally.wgsl`

var<private> loss_scale: f32;

fn before_main() {
    loss_scale = scaling[0];
}
