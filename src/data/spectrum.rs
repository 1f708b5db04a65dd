//! Sound as pictures: spectrograms, mel bands, and masks over time and frequency.

use std::f64::consts::{PI, TAU};

use super::collate::HostArray;
use crate::error::{Error, Result};
use crate::rng::Philox;

/// Power of each frequency over time: `[samples]` to `[window / 2 + 1, 1 + samples / hop]`.
///
/// Frame t is centred at sample `t * hop`, mirrored at both ends, under a Hann window: the squared magnitude of its Fourier
/// transform. PyTorch: `torch.stft(x, window, hop, window=torch.hann_window(window), return_complex=True).abs() ** 2`.
///
/// # Errors
/// [`Error::Data`] unless `window` is a power of two above 1, `hop` is above 0, and there are more samples than half a
/// window.
pub fn spectrogram(samples: &[f32], window: usize, hop: usize) -> Result<HostArray<f32>> {
    let half = window / 2;
    if window < 2 || !window.is_power_of_two() || hop == 0 || samples.len() <= half {
        let what = format!("a spectrogram of {} samples by windows of {window} every {hop}", samples.len());
        return Err(Error::Data {
            what,
            next: "take a power of two, a hop above 0, and more samples than half a window",
        });
    }
    let last = samples.len() - 1;
    let sample = |at: usize| {
        let from_start = at.abs_diff(half);
        let index = if at >= half && from_start > last { 2 * last - from_start } else { from_start };
        f64::from(samples[index])
    };
    let (bins, frames) = (half + 1, 1 + samples.len() / hop);
    let hann: Vec<f64> = (0..window).map(|n| 0.5 - 0.5 * (TAU * n as f64 / window as f64).cos()).collect();
    let mut values = vec![0.0f32; bins * frames];
    for frame in 0..frames {
        let mut wave: Vec<[f64; 2]> = (0..window).map(|n| [hann[n] * sample(frame * hop + n), 0.0]).collect();
        transform(&mut wave);
        for (bin, [re, im]) in wave[..bins].iter().enumerate() {
            values[bin * frames + frame] = (re * re + im * im) as f32;
        }
    }
    Ok(HostArray { shape: vec![bins, frames], values })
}

/// The Fourier transform of a power of two of complex numbers (Cooley and Tukey 1965).
fn transform(wave: &mut [[f64; 2]]) {
    let count = wave.len();
    let bits = count.trailing_zeros();
    for place in 0..count {
        let mirrored = place.reverse_bits() >> (usize::BITS - bits);
        if place < mirrored {
            wave.swap(place, mirrored);
        }
    }
    let mut size = 2;
    while size <= count {
        for block in wave.chunks_exact_mut(size) {
            let (even, odd) = block.split_at_mut(size / 2);
            for (k, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
                let (sin, cos) = (-2.0 * PI * k as f64 / size as f64).sin_cos();
                let turned = [odd[0] * cos - odd[1] * sin, odd[0] * sin + odd[1] * cos];
                *odd = [even[0] - turned[0], even[1] - turned[1]];
                *even = [even[0] + turned[0], even[1] + turned[1]];
            }
        }
        size *= 2;
    }
}

/// Power in bands that are even on the mel scale: a spectrogram `[bins, frames]` to `[bands, frames]`.
///
/// Triangles from 0 to half of `rate`, by mel = 2595 log10(1 + f / 700), with 1 at the top of each. torchaudio:
/// `MelScale(bands, rate)`.
///
/// # Errors
/// [`Error::Data`] unless the spectrogram has two axes with at least two bins, and `bands` is above 0.
pub fn mel(spectrogram: &HostArray<f32>, rate: u32, bands: usize) -> Result<HostArray<f32>> {
    let [bins, frames] = spectrogram.shape[..] else {
        let what = format!("a spectrogram of shape {:?}", spectrogram.shape);
        return Err(Error::Data { what, next: "pass [bins, frames]" });
    };
    if bins < 2 || bands == 0 || spectrogram.values.len() != bins * frames {
        let what = format!("{bands} bands of {bins} bins");
        return Err(Error::Data { what, next: "pass at least two bins, and ask for at least one band" });
    }
    let top = f64::from(rate) / 2.0;
    let of_hertz = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let hertz = |point: usize| {
        let mel = of_hertz(top) * point as f64 / (bands + 1) as f64;
        700.0 * (10f64.powf(mel / 2595.0) - 1.0)
    };
    let mut values = vec![0.0f32; bands * frames];
    for band in 0..bands {
        let [low, peak, high] = [0, 1, 2].map(|point| hertz(band + point));
        for bin in 0..bins {
            let at = top * bin as f64 / (bins - 1) as f64;
            let weight = ((at - low) / (peak - low)).min((high - at) / (high - peak)).max(0.0) as f32;
            if weight > 0.0 {
                let own = &spectrogram.values[bin * frames..][..frames];
                let sums = &mut values[band * frames..][..frames];
                sums.iter_mut().zip(own).for_each(|(sum, value)| *sum += weight * value);
            }
        }
    }
    Ok(HostArray { shape: vec![bands, frames], values })
}

/// Sets a run of up to `most` rows (frequencies) of `[rows, frames]` to `fill`. torchaudio: `FrequencyMasking`.
#[must_use]
pub fn mask_frequency(mut picture: HostArray<f32>, most: usize, fill: f32, random: &mut Philox) -> HostArray<f32> {
    if let [rows, frames] = picture.shape[..] {
        let [start, end] = run(rows, most, random);
        picture.values[start * frames..end * frames].fill(fill);
    }
    picture
}

/// Sets a run of up to `most` frames of `[rows, frames]` to `fill`. torchaudio: `TimeMasking`.
#[must_use]
pub fn mask_time(mut picture: HostArray<f32>, most: usize, fill: f32, random: &mut Philox) -> HostArray<f32> {
    if let [_, frames] = picture.shape[..] {
        let [start, end] = run(frames, most, random);
        picture.values.chunks_exact_mut(frames.max(1)).for_each(|row| row[start..end].fill(fill));
    }
    picture
}

/// A run of up to `most` of `count`, anywhere.
fn run(count: usize, most: usize, random: &mut Philox) -> [usize; 2] {
    let length = random.below(most.min(count) as u32 + 1) as usize;
    let start = random.below((count - length) as u32 + 1) as usize;
    [start, start + length]
}
