//! Numbers in English words.

/// A number below a million in words, without commas and hyphens: "two hundred and five thousand and seven".
pub fn spell(number: u32) -> String {
    const SMALL: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen \
                         sixteen seventeen eighteen nineteen";
    const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";
    let word = |list: &'static str, place: u32| list.split(' ').nth(place as usize).unwrap_or_default().to_string();
    let behind = |link: &str, rest: u32| if rest == 0 { String::new() } else { format!("{link}{}", spell(rest)) };
    match number {
        0..20 => word(SMALL, number),
        20..100 => word(TENS, number / 10 - 2) + &behind(" ", number % 10),
        100..1000 => word(SMALL, number / 100) + " hundred" + &behind(" and ", number % 100),
        _ => {
            let link = if number % 1000 < 100 { " and " } else { " " };
            spell(number / 1000) + " thousand" + &behind(link, number % 1000)
        }
    }
}
