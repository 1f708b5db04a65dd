//! The kernels of a pass: the verdict, what rules measure, the updates.

use std::sync::Arc;

use super::clip::{self, Classes};
use super::factors::{self, Own};
use super::measure::{self, Measured, Measuring, Owner, Way};
use super::orthogonal;
use super::pass::{FOLLOWER, GROUP, Parts, Pass, Range};
use super::rounds;
use super::rule::{Beside, Rule};
use super::spans::{Spans, TEAM};
use super::tally;
use super::walk::Walk;
use crate::arena::Arena;
use crate::costs::Costs;
use crate::engine::{ArenaBinding, ArenaKernel, Bound, Found, Wanted};
use crate::error::{Error, Result};
use crate::kernel::{Capabilities, Kernel, Shader, Vectors};
use crate::params::{BLOCK, Placed};
use crate::shader::{Item, params};
use crate::shaders::optim::{MEASURED, OWN_NUMBERS, UPDATE, UPDATE_SHARED, UPDATE_SPANS, WALK_UPDATE};

params! {
    /// Sizes of an update.
    struct Sizes {
        vectors,
        /// First word of the factors.
        word,
        /// The class of all blocks, if they have one.
        class_number: u32,
        /// How many spans there are, where it goes over spans, and the first word of them.
        spans,
        spans_at,
    }
}

/// A range of an arena as the kernels of its rule see it.
struct Site<'a> {
    rule: &'a dyn Rule,
    bound: Vec<(Bound, bool)>,
    classes: Classes,
    /// First word of its group's numbers.
    word: usize,
    elements: usize,
    sites: Sites,
    scratch: Option<&'a Arc<Arena>>,
    moments: &'a [Arc<Arena>],
}

/// What a rule that does more than go over the scalars knows of the parameters of a range.
enum Sites {
    None,
    Factors(Vec<u32>, factors::Form),
    /// The same by teams.
    Walk(Walk),
    Orthogonal(Vec<u32>),
}

impl<'a> Pass<'a> {
    /// The kernels of the update: the verdict, what rules measure, then a kernel a range.
    pub(super) fn kernels(
        &self,
        Wanted { found, first, beside, capabilities }: Wanted<'_>,
    ) -> Result<Vec<ArenaKernel>> {
        let Parts { chunks, moments, tally, partials, measured, .. } = &self.parts;
        let costs = self.parts.costs.unwrap_or_else(|| capabilities.costs());
        let (mut norms, mut updates) = (vec![], vec![]);
        let mut measuring = Measuring::default();
        let (mut before, mut between) = (vec![], vec![]);
        for (chunk, arenas) in chunks.iter().enumerate() {
            for range in self.ranges(found, chunk)? {
                let Range { first: start, elements, gradients, classes } = range;
                norms.push(clip::Norm { gradients: gradients.clone(), elements, classes: classes.clone() });
                let rule = self.rule(arenas.group)?;
                let bind = |arena: &Arc<Arena>| (Bound::Range(arena.place.clone(), start, elements), true);
                let word = first + tally::HEAD + arenas.group * GROUP;
                let mut bound = vec![bind(&arenas.values), (gradients.clone(), false)];
                let own = measured.filter(|_| rule.measures());
                let (sites, scratch) = match (rule.beside(), own, &self.parts.scratch[chunk]) {
                    (Beside::Nothing, ..) | (_, None, _) | (_, _, None) => {
                        bound.extend(moments[chunk].iter().map(bind));
                        (Sites::None, None)
                    }
                    (beside, Some(measured), Some(scratch)) => {
                        let members = self.owned(found, chunk);
                        let site = factors::Site {
                            start,
                            theta: bind(&arenas.values),
                            gradients,
                            moments: &moments[chunk],
                            status: &tally.status,
                            scratch,
                            word,
                            blocks: elements / BLOCK,
                            options: self.parts.options,
                            vectors: Vectors::of(elements, capabilities),
                            lanes: costs.dear_barriers,
                        };
                        if let Beside::Orthogonal(rounds) = beside {
                            bound[1].1 = true;
                            bound.extend(moments[chunk].iter().map(bind));
                            let (kernels, sites) = orthogonal::kernels(&members, &site, rule, rounds, &measured.sums);
                            between.extend(kernels);
                            (Sites::Orthogonal(sites), Some(scratch))
                        } else {
                            let (kernels, sites) = factors::kernels(&members, &site);
                            before.extend(kernels);
                            let width = Vectors::of(elements, capabilities).width();
                            let sites = match costs.dear_barriers {
                                true => Sites::Walk(Walk::of(&members, start, sites, width)),
                                false => Sites::Factors(sites, factors::Form::of(&members, width)),
                            };
                            (sites, Some(scratch))
                        }
                    }
                };
                let site = Site { rule, bound, classes, word, elements, sites, scratch, moments: &moments[chunk] };
                let owners = self.owners(chunk, start, elements, &site.classes);
                if let Some(measured) = own {
                    measuring.add(self.measure(&site, capabilities, costs), measured, &owners);
                }
                updates.push(self.update(site, own, &owners, capabilities, costs));
            }
        }
        let mut settlings = self.settlings(found).into_iter();
        let (rule, members) = settlings.next().ok_or_else(|| Error::internal("an update of nothing"))?;
        let verdict = tally.verdict(first, rule, members, beside);
        let mut kernels = self.rounds(found, costs)?;
        kernels.extend(clip::kernels(norms, verdict, partials, capabilities, costs));
        kernels.extend(settlings.map(|(rule, members)| tally.settle(first, rule, members)));
        kernels.extend(self.parts.noise.iter().map(|noise| noise.count(&tally.status)));
        kernels.extend(before);
        if let Some(measured) = measured {
            kernels.extend(measuring.kernels(measured));
        }
        kernels.extend(between);
        kernels.extend(updates);
        let word = first + tally::HEAD + self.parts.now.len() * GROUP;
        for (i, follower) in self.parts.followers.iter().enumerate() {
            kernels.extend(follower.kernels(word + i * FOLLOWER, &tally.status, capabilities)?);
        }
        Ok(kernels)
    }

    /// The kernels that change gradients before the verdict.
    fn rounds(&self, found: &[Found], costs: &Costs) -> Result<Vec<ArenaKernel>> {
        let Parts { chunks, layout, tally, .. } = &self.parts;
        let updated = |chunk| self.updated(found, |found| found != Found::Nowhere, chunk);
        let updated: Vec<Vec<&Placed>> =
            (0..chunks.len()).map(|chunk| updated(chunk).map(|(number, _)| &layout[number]).collect()).collect();
        let mut kernels = vec![];
        for round in self.parts.options.rounds() {
            // There is room wherever a parameter has units.
            let Some(room) = self.parts.room else { continue };
            kernels.extend(rounds::kernels(round, chunks, &updated, room, &tally.scale, costs)?);
        }
        if let Some(noise) = &self.parts.noise {
            kernels.extend(noise.kernels(chunks, &updated, &tally.scale, costs)?);
        }
        Ok(kernels)
    }

    /// The parameters of a chunk that are updated, in the order in which they lie.
    fn owned(&self, found: &[Found], chunk: usize) -> Vec<Own<'a>> {
        let (layout, places) = (self.parts.layout, self.parts.places);
        let own = |(number, _): (usize, Found)| Own {
            number,
            place: &layout[number],
            moments: &places[number],
            class: self.classes[number],
        };
        let mut all: Vec<Own<'a>> = self.updated(found, |found| found != Found::Nowhere, chunk).map(own).collect();
        all.sort_by_key(|own| own.place.offset);
        all
    }

    /// The parameter of each block of a range, where it is updated.
    fn owners(&self, chunk: usize, start: usize, elements: usize, classes: &Classes) -> Vec<Option<Owner>> {
        let mut owners = vec![None; elements.div_ceil(BLOCK)];
        for (number, place) in self.parts.layout.iter().enumerate().filter(|(_, place)| place.chunk == chunk) {
            let last = (place.offset + place.shape.elements()).min(start + elements);
            if place.offset < start || place.offset >= last || !classes.updates((place.offset - start) / BLOCK) {
                continue;
            }
            let (begin, end) = (place.offset - start, last - start);
            owners[begin / BLOCK..end.div_ceil(BLOCK)].fill(Some(Owner { number: number as u32, end: end as u32 }));
        }
        owners
    }

    /// The shader of a rule over vectors, with what it asks for.
    fn shader(&self, rule: &dyn Rule, form: Vectors) -> Shader {
        let adjust = Item::new("adjust", self.parts.options.adjust());
        let shader = rule.shader().item(adjust).file(form.file()).file(&OWN_NUMBERS).with_operands();
        if rule.measures() { shader.file(&MEASURED) } else { shader }
    }

    /// The kernel of an update of a range whose blocks have these owners.
    fn update(
        &self,
        site: Site<'_>,
        measured: Option<&Measured>,
        owners: &[Option<Owner>],
        capabilities: &Capabilities,
        costs: &Costs,
    ) -> ArenaKernel {
        let Site { rule, bound, classes, word, elements, sites, scratch, moments } = site;
        let form = Vectors::of(elements, capabilities);
        let vectors = elements / form.width();
        // Where loads are dear those of a class and of factors are made once for many blocks.
        let one = matches!(classes, Classes::One(_));
        let walks = matches!(sites, Sites::Walk(_));
        let spans = (costs.dear_loads && !walks && !(one && measured.is_none()))
            .then(|| Spans::of(owners, &classes, vectors, form.width()));
        let main = match (walks, &spans) {
            (true, _) => &WALK_UPDATE,
            (_, Some(_)) => &UPDATE_SPANS,
            (_, None) => &UPDATE,
        };
        let shader = self.shader(rule, form).file(main).file(&UPDATE_SHARED);
        let shader = shader.constant("ONE_CLASS", one).constant("MEASURES", measured.is_some());
        let name = if form.eights { format!("{}.eights", rule.name()) } else { rule.name().into() };
        let mut kernel = Kernel::own(name, shader);
        kernel.workgroups = spans.as_ref().map_or(vectors, |spans| spans.count() * TEAM).div_ceil(64) as u64;
        kernel.iterations = if spans.is_some() { Spans::rounds(TEAM, form.width()) } else { 1 };
        // Values and moments are read and written, gradients read.
        kernel.bytes = Some(elements as u64 * 4 * (2 * bound.len() as u64 - 1));
        let in_spans = spans.is_some();
        let mut sizes = Sizes { vectors, word, class_number: classes.number(), spans: 0, spans_at: 0 };
        let mut kernel = ArenaKernel { kernel, arenas: bound };
        kernel.bind(ArenaBinding::read(&self.parts.tally.status, "status", "vec4<f32>"));
        let go_over = |kernel: &mut ArenaKernel, sites: Option<&mut Vec<u32>>| {
            if let Some(spans) = spans {
                (sizes.spans, sizes.spans_at) = (spans.count(), spans.bind(kernel, sites));
            }
        };
        match (sites, scratch, measured) {
            (Sites::Factors(sites, form), Some(scratch), Some(measured)) => {
                factors::bind(&mut kernel, moments, scratch, form, false);
                factors::bind_sites(&mut kernel);
                factors::bind_sums(&mut kernel, &measured.sums, sites, "$sites$[block]");
            }
            (Sites::Walk(walk), Some(scratch), Some(measured)) => {
                (sizes.spans, sizes.spans_at) = (walk.teams, walk.at);
                let sites = walk.bind(&mut kernel, moments, scratch);
                factors::bind_sums(&mut kernel, &measured.sums, sites, "$own_site_at$");
            }
            (Sites::Orthogonal(mut sites), Some(scratch), Some(measured)) => {
                orthogonal::bind(&mut kernel, scratch);
                factors::bind_class(&mut kernel);
                go_over(&mut kernel, Some(&mut sites));
                factors::bind_sums(&mut kernel, &measured.sums, sites, "$sites$[block]");
            }
            (.., measured) => {
                // A span says of which class and parameter it is: bindings are few.
                match in_spans {
                    true => Spans::bind_class(&mut kernel, &classes),
                    false => classes.bind(&mut kernel),
                }
                go_over(&mut kernel, None);
                measure::bind_sums(&mut kernel, measured, owners, in_spans);
            }
        }
        kernel.kernel.uniform(sizes);
        kernel
    }

    /// The kernel that measures for an update, but for where its sums go.
    fn measure(&self, site: &Site<'_>, capabilities: &Capabilities, costs: &Costs) -> measure::Draft {
        let form = Vectors::of(site.elements, capabilities);
        let shader = self.shader(site.rule, form);
        let mut kernel = Kernel::own(format!("{}.measure", site.rule.name()), shader);
        kernel.bytes = Some(site.elements as u64 * 4 * (2 * site.bound.len() as u64 - 1));
        let mut kernel = ArenaKernel { kernel, arenas: site.bound.clone() };
        kernel.bind(ArenaBinding::read(&self.parts.tally.status, "status", "vec4<f32>"));
        let way = match (&site.sites, site.scratch) {
            (Sites::Factors(sites, form), Some(scratch)) => {
                factors::bind(&mut kernel, site.moments, scratch, *form, false);
                factors::bind_sites(&mut kernel);
                Way::Sites(sites.clone())
            }
            (Sites::Walk(walk), Some(scratch)) => {
                let walk = walk.clone();
                let (teams, at, parameters) = (walk.teams, walk.at, walk.parameters.clone());
                Way::Walk { sites: walk.bind(&mut kernel, site.moments, scratch), teams, at, parameters }
            }
            _ => {
                Spans::bind_class(&mut kernel, &site.classes);
                Way::Spans
            }
        };
        let lanes = costs.dear_barriers;
        let classes = site.classes.clone();
        measure::Draft { kernel, form, elements: site.elements, word: site.word, classes, lanes, way }
    }
}
