//! What comes next, guessed from what came before.
//!
//! The encoder chooses by sums and in floating point, with the widest instructions of the processor; what is said to
//! the decoder, and what both compute from it, are whole numbers.

use pulp::{Arch, Simd, WithSimd};

/// Highest order of a linear predictor.
pub(super) const MAX_ORDER: usize = 12;
/// Largest and smallest coefficient.
const COEFFICIENT_MAX: i32 = (1 << 13) - 1;
const COEFFICIENT_MIN: i32 = -(1 << 13);
/// A block is this short when a linear predictor costs more than it saves, in samples.
const SHORT: usize = 64;
/// So many samples are added up in single precision.
const SHORT_SUM: usize = 256;
/// So many samples at once, as the widest instructions take them.
const LANES: usize = 8;

/// How a channel is predicted.
pub(super) enum Plan {
    /// By a difference of this order.
    Fixed(usize),
    /// By a sum of what came before.
    Linear(Linear),
}

/// A linear predictor.
pub(super) struct Linear {
    /// For the last sample, the one before, and so on.
    pub coefficients: Vec<i32>,
    /// The sum is shifted right by so many bits.
    pub shift: u32,
}

impl Plan {
    /// How many samples it needs to begin with.
    pub fn order(&self) -> usize {
        match self {
            Self::Fixed(order) => *order,
            Self::Linear(linear) => linear.coefficients.len(),
        }
    }
}

/// What is done with a predictor once its order is a constant.
pub(super) trait Predicted {
    /// What comes of it.
    type Output;
    /// `guess` tells the next sample from the last ones, which begin with the oldest.
    fn run<const ORDER: usize>(self, guess: impl Fn(&[i32; ORDER]) -> i64) -> Self::Output;
}

/// With the polynomial of this order, at most 4.
#[inline(always)]
pub(super) fn with_fixed<P: Predicted>(order: usize, of: P) -> P::Output {
    match order {
        0 => of.run(|[]| 0),
        1 => of.run(|&[one]| i64::from(one)),
        2 => of.run(|last| {
            let [two, one] = last.map(i64::from);
            2 * one - two
        }),
        3 => of.run(|last| {
            let [three, two, one] = last.map(i64::from);
            3 * one - 3 * two + three
        }),
        _ => of.run(|last| {
            let [four, three, two, one] = last.map(i64::from);
            4 * one - 6 * two + 4 * three - four
        }),
    }
}

/// With a sum weighted by `coefficients`, 1 to [`MAX_ORDER`] of them, that of the last sample first.
#[inline(always)]
pub(super) fn with_linear<P: Predicted>(coefficients: &[i32], shift: u32, of: P) -> P::Output {
    #[inline(always)]
    fn run<const ORDER: usize, P: Predicted>(coefficients: &[i32], shift: u32, of: P) -> P::Output {
        let mut turned = [0_i32; ORDER];
        for (to, from) in turned.iter_mut().zip(coefficients.iter().rev()) {
            *to = *from;
        }
        of.run(move |last: &[i32; ORDER]| {
            let mut sum = 0_i64;
            for at in 0..ORDER {
                sum = sum.wrapping_add(i64::from(last[at]).wrapping_mul(i64::from(turned[at])));
            }
            sum >> shift
        })
    }
    match coefficients.len() {
        1 => run::<1, P>(coefficients, shift, of),
        2 => run::<2, P>(coefficients, shift, of),
        3 => run::<3, P>(coefficients, shift, of),
        4 => run::<4, P>(coefficients, shift, of),
        5 => run::<5, P>(coefficients, shift, of),
        6 => run::<6, P>(coefficients, shift, of),
        7 => run::<7, P>(coefficients, shift, of),
        8 => run::<8, P>(coefficients, shift, of),
        9 => run::<9, P>(coefficients, shift, of),
        10 => run::<10, P>(coefficients, shift, of),
        11 => run::<11, P>(coefficients, shift, of),
        _ => run::<12, P>(coefficients, shift, of),
    }
}

/// Puts what a predictor leaves of each sample into `residuals`; false if something leaves more than 32 bits.
struct Leave<'r> {
    samples: &'r [i32],
    residuals: &'r mut Vec<i32>,
}

impl Predicted for Leave<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<const ORDER: usize>(self, guess: impl Fn(&[i32; ORDER]) -> i64) -> bool {
        let later = self.samples.get(ORDER..).unwrap_or_default();
        self.residuals.clear();
        self.residuals.resize(later.len(), 0);
        let mut lost = 0;
        // By the number, not by windows: this becomes wide instructions.
        for (at, (residual, sample)) in self.residuals.iter_mut().zip(later).enumerate() {
            let Some(last) = self.samples[at..].first_chunk::<ORDER>() else {
                break;
            };
            let left = i64::from(*sample) - guess(last);
            *residual = left as i32;
            lost |= left ^ i64::from(*residual);
        }
        lost == 0
    }
}

/// Chooses a predictor and puts what it leaves into `residuals`.
pub(super) fn plan(samples: &[i32], residuals: &mut Vec<i32>) -> Plan {
    struct Choose<'c>(&'c [i32], &'c mut Vec<i32>);
    impl WithSimd for Choose<'_> {
        type Output = Plan;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Plan {
            chosen(self.0, self.1)
        }
    }
    Arch::new().dispatch(Choose(samples, residuals))
}

#[inline(always)]
fn chosen(samples: &[i32], residuals: &mut Vec<i32>) -> Plan {
    let mut floats: Vec<f32> = samples.iter().map(|&sample| sample as f32).collect();
    let (order, mean) = fixed_order(&floats);
    let best_fixed = bits_of(mean, samples.len() - order) + 32.0 * order as f64;
    fade(&mut floats);
    if samples.len() >= SHORT
        && let Some((found, bits)) = linear_of(&floats)
        && bits < best_fixed
        && with_linear(&found.coefficients, found.shift, Leave { samples, residuals })
    {
        let sum: u64 = residuals
            .iter()
            .map(|residual| u64::from(residual.unsigned_abs()))
            .sum();
        // Rounded coefficients may be worse than they seemed.
        if bits_of(sum as f64 / residuals.len() as f64, residuals.len()) <= best_fixed {
            return Plan::Linear(found);
        }
    }
    if with_fixed(order, Leave { samples, residuals }) {
        return Plan::Fixed(order);
    }
    // The samples themselves always fit.
    with_fixed(0, Leave { samples, residuals });
    Plan::Fixed(0)
}

/// About the bits of so many residuals of this mean size.
fn bits_of(mean: f64, count: usize) -> f64 {
    count as f64 * ((mean * 1.386).max(0.2).log2() + 1.6).max(0.3)
}

/// The order whose differences are smallest, and their mean size.
#[inline(always)]
fn fixed_order(samples: &[f32]) -> (usize, f64) {
    let count = samples.len().saturating_sub(4);
    if count == 0 {
        return (0, f64::from(i32::MAX));
    }
    let (mut sums, mut counted) = ([0_f64; 5], 0);
    // Every other part tells enough.
    for from in (0..count).step_by(2 * SHORT_SUM) {
        let part = &samples[from..samples.len().min(from + SHORT_SUM + 4)];
        counted += part.len() - 4;
        let mut lanes = [[0_f32; LANES]; 5];
        let mut at = 0;
        while let Some(some) = part[at..].first_chunk::<{ LANES + 4 }>() {
            for lane in 0..LANES {
                let [a, b, c, d, e] = [
                    some[lane],
                    some[lane + 1],
                    some[lane + 2],
                    some[lane + 3],
                    some[lane + 4],
                ];
                let differences = differences([a, b, c, d, e]);
                for order in 0..5 {
                    lanes[order][lane] += differences[order].abs();
                }
            }
            at += LANES;
        }
        for five in part[at..].array_windows::<5>() {
            for (lanes, difference) in lanes.iter_mut().zip(differences(*five)) {
                lanes[0] += difference.abs();
            }
        }
        for (sum, lanes) in sums.iter_mut().zip(lanes) {
            *sum += f64::from(lanes.iter().sum::<f32>());
        }
    }
    let order = (0..5)
        .min_by(|&one, &other| sums[one].total_cmp(&sums[other]))
        .unwrap_or(0);
    (order, sums[order] / counted as f64)
}

/// Differences of order 0 to 4 at the last of five samples.
#[inline(always)]
fn differences([a, b, c, d, e]: [f32; 5]) -> [f32; 5] {
    let [ab, bc, cd, de] = [b - a, c - b, d - c, e - d];
    let [abc, bcd, cde] = [bc - ab, cd - bc, de - cd];
    let [abcd, bcde] = [bcd - abc, cde - bcd];
    [e, de, cde, bcde, bcde - abcd]
}

/// The linear predictor that promises the fewest bits, and about how many.
#[inline(always)]
fn linear_of(faded: &[f32]) -> Option<(Linear, f64)> {
    let autocorrelation = autocorrelation(faded);
    if autocorrelation[0] <= 0.0 {
        return None;
    }
    let mut error = autocorrelation[0];
    let mut coefficients = [0_f64; MAX_ORDER];
    let mut best: Option<(Vec<f64>, f64)> = None;
    for order in 0..MAX_ORDER {
        let mut sum = autocorrelation[order + 1];
        for back in 0..order {
            sum -= coefficients[back] * autocorrelation[order - back];
        }
        let reflection = sum / error;
        let before = coefficients;
        coefficients[order] = reflection;
        for back in 0..order {
            coefficients[back] = before[back] - reflection * before[order - 1 - back];
        }
        error *= 1.0 - reflection * reflection;
        if !error.is_finite() || error <= 0.0 {
            break;
        }
        // The mean size of a residual whose distribution is Laplace's.
        let mean = (error / faded.len() as f64).sqrt() * std::f64::consts::FRAC_1_SQRT_2 * 1.06;
        let bits = bits_of(mean, faded.len() - order - 1) + 30.0 * (order + 1) as f64;
        if best.as_ref().is_none_or(|(_, least)| bits < *least) {
            best = Some((coefficients[..=order].to_vec(), bits));
        }
    }
    let (coefficients, bits) = best?;
    Some((rounded(&coefficients)?, bits))
}

/// Lets a block fade in and out.
#[inline(always)]
fn fade(samples: &mut [f32]) {
    let half = samples.len() / 2;
    let (front, back) = samples.split_at_mut(half);
    for (at, (early, late)) in front.iter_mut().zip(back.iter_mut().rev()).enumerate() {
        let x = (at + 1) as f32 / half as f32;
        let weight = x * (2.0 - x);
        *early *= weight;
        *late *= weight;
    }
}

/// How alike a block is to itself so many samples later.
#[inline(always)]
fn autocorrelation(faded: &[f32]) -> [f64; MAX_ORDER + 1] {
    let mut sums = [0_f64; MAX_ORDER + 1];
    for (lag, sum) in sums.iter_mut().enumerate() {
        let early = &faded[..faded.len() - lag];
        // In short pieces, so that single precision is enough within each.
        for (late, early) in faded[lag..].chunks(SHORT_SUM).zip(early.chunks(SHORT_SUM)) {
            let ((late, late_rest), (early, early_rest)) =
                (late.as_chunks::<{ 4 * LANES }>(), early.as_chunks::<{ 4 * LANES }>());
            let mut lanes = [0_f32; 4 * LANES];
            for (late, early) in late.iter().zip(early) {
                for lane in 0..4 * LANES {
                    lanes[lane] += late[lane] * early[lane];
                }
            }
            let rest: f32 = late_rest.iter().zip(early_rest).map(|(a, b)| a * b).sum();
            *sum += f64::from(lanes.iter().sum::<f32>() + rest);
        }
    }
    sums
}

/// Whole coefficients, the error of each carried on to the next.
fn rounded(coefficients: &[f64]) -> Option<Linear> {
    let largest = coefficients
        .iter()
        .fold(0_f64, |most, coefficient| most.max(coefficient.abs()));
    if !largest.is_finite() || largest <= 0.0 {
        return None;
    }
    let integer_bits = largest.log2().floor() as i32 + 1;
    let shift = (13 - integer_bits).clamp(0, 15) as u32;
    let mut carried = 0.0;
    let whole = coefficients.iter().map(|coefficient| {
        let exact = coefficient * f64::from(1_u32 << shift) + carried;
        let rounded = exact
            .round()
            .clamp(f64::from(COEFFICIENT_MIN), f64::from(COEFFICIENT_MAX));
        carried = exact - rounded;
        rounded as i32
    });
    Some(Linear {
        coefficients: whole.collect(),
        shift,
    })
}
