//! A rough model of a compute unit: what bounds the hottest loop.
//!
//! Throughput: the busiest of four units (vector, workgroup memory, loads and stores, scalar), each at its documented rate,
//! with all vector units of a compute unit running the same kernel. Latency: one wave runs the loop in order, waits where
//! the code waits, and the waves that fit take turns. Caches, DRAM, bank conflicts and barriers are not in it.

use crate::isa::{Counts, Instruction, Kind, Program};

pub struct Machine {
    wave: f64,
    /// Cycles of one vector instruction of a wave.
    issue: f64,
    /// Vector units that share workgroup memory and the path to the caches.
    units: f64,
    /// Bytes from DRAM a cycle and vector unit.
    dram: f64,
    /// Waves that the driver counts for one of ours: from GFX10 on it counts in waves of 32.
    counted: f64,
}

/// Bytes a cycle that a compute unit moves from or to workgroup memory, and its first cache.
const LDS: f64 = 128.0;
const LDS_LATENCY: f64 = 100.0;
const LOAD_LATENCY: f64 = 500.0;
const SCALAR_LATENCY: f64 = 200.0;

impl Machine {
    pub fn of(family: &str, subgroup: u32) -> Machine {
        let wave = f64::from(subgroup.max(32));
        let gcn = ["VEGA", "POLARIS", "FIJI", "TONGA", "HAWAII", "RAVEN", "GFX9", "MI"]
            .iter()
            .any(|name| family.starts_with(name));
        // Compute units, clock in GHz, GB/s of the largest card.
        let (units, clock, bandwidth) = match family {
            "NAVI10" => (40.0, 1.75, 448.0),
            "NAVI21" => (80.0, 2.25, 512.0),
            "GFX1100" | "NAVI31" => (96.0, 2.3, 960.0),
            "VEGA10" => (64.0, 1.5, 484.0),
            _ => (64.0, 2.0, 512.0),
        };
        let (each, lanes) = if gcn { (4.0, 16.0) } else { (2.0, 32.0) };
        Machine {
            wave,
            issue: wave / lanes,
            units: each,
            dram: bandwidth / clock / units / each,
            counted: if gcn { 1.0 } else { wave / 32.0 },
        }
    }

    fn vector(&self, counts: &Counts) -> f64 {
        self.issue * (counts.fma_instructions + counts.vector + 4.0 * counts.slow + 16.0 * counts.double)
    }

    /// Cycles that a wave keeps the workgroup memory of its compute unit busy, as a share of one vector unit.
    fn lds(&self, counts: &Counts) -> f64 {
        self.units * self.wave * (counts.lds_read_bytes + counts.lds_write_bytes) / LDS
    }

    /// The first cache moves 128 bytes or looks at 32 lanes a cycle.
    fn cache(&self, counts: &Counts) -> f64 {
        let bytes = self.wave * (counts.load_bytes + counts.store_bytes) / LDS;
        self.units * bytes.max(self.wave / 32.0 * (counts.loads + counts.stores))
    }

    /// Cycles in which one wave runs these instructions in order, over and over.
    fn alone(&self, sequence: &[&Instruction]) -> f64 {
        let (mut now, mut loads, mut others, mut start) = (0.0f64, vec![], vec![], 0.0);
        // The second round is what a round takes.
        for round in 0..2 {
            if round == 1 {
                start = now;
            }
            for it in sequence {
                let cycles = match it.kind {
                    Kind::Fma(_) | Kind::Vector => self.issue,
                    Kind::Slow => 4.0 * self.issue,
                    Kind::Double => 16.0 * self.issue,
                    Kind::Other => 0.0,
                    _ => 1.0,
                };
                now += cycles * it.weight;
                match it.kind {
                    Kind::LdsRead(bytes) => others.push(now + LDS_LATENCY + self.wave * f64::from(bytes) / LDS),
                    Kind::LdsWrite(_) => others.push(now + 40.0),
                    Kind::ScalarLoad => others.push(now + SCALAR_LATENCY),
                    Kind::Load(_) | Kind::Scratch => loads.push(now + LOAD_LATENCY),
                    Kind::Wait => {
                        for (name, queue) in [("vmcnt(", &mut loads), ("lgkmcnt(", &mut others)] {
                            let left = it
                                .text
                                .split(name)
                                .nth(1)
                                .and_then(|rest| rest.split(')').next()?.parse::<usize>().ok());
                            let Some(left) = left else { continue };
                            while queue.len() > left {
                                let done: f64 = queue.remove(0);
                                now += (done - now).max(0.0) * it.weight;
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        now - start
    }
}

/// The head of the table whose rows [`Report::row`] makes.
pub const HEAD: &str = "| workload | kernel | registers | waves | spills | peak | bytes | bound by | alone |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |";

pub struct Report {
    registers: f64,
    waves: f64,
    spills: f64,
    /// Share of the f32 peak, where it multiplies and adds.
    peak: Option<f64>,
    /// Time over that of the bytes.
    bytes: Option<f64>,
    busiest: &'static str,
    alone: f64,
}

impl Report {
    /// Of the loop with the most multiply-adds; one inside another that brings its data counts with it, `trips` times if its
    /// rounds are not in the code.
    pub fn new(
        program: &Program,
        machine: &Machine,
        trips: Option<u64>,
        statistic: impl Fn(&str) -> Option<f64>,
    ) -> Report {
        let hot = program.hottest();
        let around = hot.and_then(|hot| program.loops[hot].parent).filter(|&parent| {
            let own = program.count(parent);
            own.lds_writes + own.barriers > 0.0
        });
        let mut sequence: Vec<&Instruction> = vec![];
        match (hot, around) {
            (Some(hot), Some(around)) => {
                let (inner, outer) = (&program.loops[hot], &program.loops[around]);
                let rounds = trips.or(program.rounds(hot)).unwrap_or(16);
                sequence.extend(&program.code[outer.first..inner.first]);
                (0..rounds).for_each(|_| sequence.extend(&program.code[inner.first..=inner.last]));
                sequence.extend(&program.code[inner.last + 1..=outer.last]);
            }
            (Some(hot), None) => sequence.extend(program.own(hot).map(|(_, it)| it)),
            _ => sequence.extend(&program.code),
        }
        let mut counts = Counts::default();
        sequence.iter().for_each(|it| counts.add(it, 1.0));
        let waves = (statistic("Subgroups per SIMD").unwrap_or(1.0) / machine.counted).max(1.0);
        let alone = machine.alone(&sequence);
        let bounds = [
            ("vector units", machine.vector(&counts)),
            ("workgroup memory", machine.lds(&counts)),
            ("first cache", machine.cache(&counts)),
            ("scalar unit", counts.scalar),
            ("latency", alone / waves),
        ];
        let (busiest, cycles) = bounds.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("", 1.0));
        let dram = machine.wave * (counts.load_bytes + counts.store_bytes) / machine.dram;
        let fma = machine.issue * counts.fma_instructions;
        Report {
            registers: statistic("VGPRs").unwrap_or(0.0),
            waves,
            spills: statistic("Spilled VGPRs").unwrap_or(0.0) + statistic("Spilled SGPRs").unwrap_or(0.0),
            peak: (fma > 0.0).then(|| 100.0 * fma / cycles),
            bytes: (dram > 0.0).then(|| cycles / dram),
            busiest,
            alone,
        }
    }

    pub fn row(&self, workload: &str, kernel: &str) -> String {
        let Report { registers, waves, spills, busiest, alone, .. } = self;
        let peak = self.peak.map_or(String::new(), |share| format!("{share:.0} %"));
        let bytes = self.bytes.map_or(String::new(), |times| format!("{times:.2}"));
        format!(
            "| {workload} | {kernel} | {registers} | {waves} | {spills} | {peak} | {bytes} | {busiest} | {alone:.0} |"
        )
    }
}
