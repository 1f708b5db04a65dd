// Counts the updates of a rule's parameters, unless the step is skipped, and forms what its update needs for each class of
// them: status[class] is the correction for that count.
//
// status    vectors of four
// counts    [parameters], u32
// members   [parameters, 2]: 0 not updated, 1 updated, 1 + class where it stands for its class; the number of its group
// operands  host numbers: from word p.word on HEAD vectors of the step, then GROUP of each group
//
// Asks for: `correction(at, count, kept)` of the rule; `kept_of(number)` and `keep(number, kept)`, what it keeps for a
// parameter, and `const KEEPS`, true if there is anything; p.word and p.parameters.

const HEAD: u32 = 2u;
const GROUP: u32 = 5u;

struct Corrected {
    factors: vec4<f32>,
    kept: vec4<f32>,
}

// 1 - b^count, with all its digits, where log.x + log.y = ln b, and log.x has so few bits that its product with a count below
// 4096 is exact: 1 - e^x by a series within 0.5, else by 1 - e^2x = (1 - e^x) (1 + e^x), which makes a relative error no
// larger. Below x = -20 it is 1 in f32. At most twelve rounds.
fn one_minus_power(log: vec2<f32>, count: u32) -> f32 {
    var y = max(f32(count) * log.x + f32(count) * log.y, -20.0);
    var doublings = 0u;
    while y < -0.5 {
        y *= 0.5;
        doublings++;
    }
    let tail = 1.0 + y * (1.0 / 6.0) * (1.0 + y * (1.0 / 7.0) * (1.0 + y * 0.125 * (1.0 + y * (1.0 / 9.0))));
    var u = -y * (1.0 + y * 0.5 * (1.0 + y * (1.0 / 3.0) * (1.0 + y * 0.25 * (1.0 + y * 0.2 * tail))));
    for (; doublings > 0u; doublings--) {
        u = u * (2.0 - u);
    }
    return u;
}

fn settle_parameters(lane: u32, skipped: bool) {
    for (var number = lane; number < p.parameters; number += 64u) {
        let role = u32(members[2u * number]);
        if role == 0u {
            continue;
        }
        var count = counts[number];
        if !skipped {
            count += 1u;
            counts[number] = count;
        }
        if KEEPS || role > 1u {
            let at = p.word / 4u + HEAD + GROUP * u32(members[2u * number + 1u]);
            let corrected = correction(at, max(count, 1u), kept_of(number));
            if KEEPS && !skipped {
                keep(number, corrected.kept);
            }
            if role > 1u {
                status[role - 1u] = corrected.factors;
            }
        }
    }
}
