// What a span says: a run of blocks of one parameter, which a workgroup or a team of 8 neighbours goes over. Five words each: its first
// vector, the one behind its last, the element behind the last of its parameter, the number of that, its class.
//
// Asks for: `span_word(at)`. `class_of` and `sums_of` may read from `own_span` on.

// The first word of the span at hand.
var<private> own_span: u32;

// The vectors of the span at hand: the first, and the one behind the last.
fn take_span(span: u32) -> vec2<u32> {
    own_span = 5u * span;
    return vec2<u32>(span_word(own_span), span_word(own_span + 1u));
}
