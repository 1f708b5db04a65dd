//! A pass in f64, on the reference's arenas.

use super::pass::{Parts, Pass};
use super::rule::Update;
use crate::error::Result;

impl Pass<'_> {
    /// The same on the reference's arenas.
    pub(super) fn reference(&self, reached: &[bool], finite: bool) -> Result<()> {
        let Parts { chunks, layout, tally, options, .. } = &self.parts;
        let mut square = 0.0;
        let scale = tally.scale.cpu()?[0];
        for (chunk, arenas) in chunks.iter().enumerate() {
            let mut gradients = self.gradients(chunk)?.cpu()?;
            let values = arenas.values.cpu()?;
            for (number, _) in self.updated(reached, |reached| reached, chunk) {
                let place = &layout[number];
                let range = place.offset..place.offset + place.shape.elements();
                let (gradients, values) = (&mut gradients[range.clone()], &values[range]);
                for round in options.rounds() {
                    round.reference(&place.shape, values, gradients, scale);
                }
                if let Some(noise) = &self.parts.noise {
                    noise.reference(&place.name, gradients, scale)?;
                }
                square += gradients.iter().map(|g| g * g).sum::<f64>();
            }
        }
        let norm: f64 = f64::sqrt(square);
        let status = tally.reference(norm, finite, options.clip_norm)?;
        tally.status.cpu()?[..4].copy_from_slice(&status);
        let [_, factor, skipped, error] = status;
        if let Some(noise) = self.parts.noise.filter(|_| error == 0.0) {
            noise.steps.cpu()?[0] += 1.0;
        }
        if skipped != 0.0 {
            return Ok(());
        }
        for (chunk, arenas) in chunks.iter().enumerate() {
            let rule = match self.updated(reached, |reached| reached, chunk).next() {
                Some(_) => self.rule(arenas.group)?,
                None => continue,
            };
            let numbers = self.group_numbers(arenas.group)?;
            let gradients = self.gradients(chunk)?.cpu()?;
            let mut values = arenas.values.cpu()?;
            let mut moments = vec![];
            for arena in &self.parts.moments[chunk] {
                moments.push(arena.cpu()?);
            }
            for (number, _) in self.updated(reached, |reached| reached, chunk) {
                let place = &layout[number];
                let count = {
                    let count = &mut tally.counts.cpu()?[number];
                    *count += 1.0;
                    *count as u64
                };
                let range = place.offset..place.offset + place.shape.elements();
                let values = &mut values[range.clone()];
                let gradients: Vec<f64> = gradients[range.clone()]
                    .iter()
                    .zip(&*values)
                    .map(|(g, x)| options.adjusted(factor * g, *x))
                    .collect();
                let mut kept = [0.0; 4];
                if let Some(arena) = self.parts.kept {
                    kept.copy_from_slice(&arena.cpu()?[4 * number..][..4]);
                }
                rule.reference(&mut Update {
                    numbers: &numbers,
                    count,
                    kept: &mut kept,
                    shape: place.shape,
                    values,
                    gradients: &gradients,
                    moments: &mut moments
                        .iter_mut()
                        .zip(&self.parts.places[number])
                        .map(|(moment, place)| match place {
                            Some((offset, shape)) => &mut moment[*offset..][..shape.elements()],
                            None => &mut [],
                        })
                        .collect::<Vec<_>>(),
                });
                if let Some(arena) = self.parts.kept {
                    arena.cpu()?[4 * number..][..4].copy_from_slice(&kept);
                }
            }
        }
        self.parts.followers.iter().try_for_each(|follower| follower.reference())
    }
}
