//! What comes next, guessed from what came before.
//!
//! The encoder chooses by sums and in floating point; what is said to the decoder, and what both compute from
//! it, are whole numbers.

/// Highest order of a linear predictor.
pub(super) const MAX_ORDER: usize = 12;
/// Largest and smallest coefficient.
const COEFFICIENT_MAX: i32 = (1 << 13) - 1;
const COEFFICIENT_MIN: i32 = -(1 << 13);
/// A block is this short when a linear predictor costs more than it saves, in samples.
const SHORT: usize = 64;

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

/// The next sample by a polynomial through the last `order` ones; `before` has as many.
#[inline]
pub(super) fn fixed(before: &[i32], order: usize) -> i64 {
    let at = |back: usize| i64::from(before[before.len() - back]);
    match order {
        0 => 0,
        1 => at(1),
        2 => 2 * at(1) - at(2),
        3 => 3 * at(1) - 3 * at(2) + at(3),
        _ => 4 * at(1) - 6 * at(2) + 4 * at(3) - at(4),
    }
}

/// Adds up what came before: `last` and `coefficients` both begin with the oldest.
#[inline]
fn weighted<const ORDER: usize>(last: &[i32], coefficients: &[i64; ORDER]) -> i64 {
    let Some(last) = last.first_chunk::<ORDER>() else {
        return 0;
    };
    let mut sum = 0_i64;
    for at in 0..ORDER {
        sum = sum.wrapping_add(i64::from(last[at]).wrapping_mul(coefficients[at]));
    }
    sum
}

/// Runs `$run::<ORDER>(…)` for the number of coefficients, which are turned round to begin with the oldest.
macro_rules! for_order {
    ($run:ident, $coefficients:expr, ($($argument:expr),*)) => {
        for_order!($run, $coefficients, ($($argument),*), 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    ($run:ident, $coefficients:expr, $arguments:tt, $($order:literal)*) => {
        match $coefficients.len() {
            $($order => {
                let mut turned = [0_i64; $order];
                for (to, from) in turned.iter_mut().zip($coefficients.iter().rev()) {
                    *to = i64::from(*from);
                }
                for_order!(@call $run, &turned, $arguments)
            })*
            _ => {}
        }
    };
    (@call $run:ident, $turned:expr, ($($argument:expr),*)) => { $run($turned, $($argument),*) };
}

/// Makes samples from `from` on of residuals and a sum of what came before; that many lie before `from`.
pub(super) fn add_linear(samples: &mut [i32], from: usize, coefficients: &[i64], shift: u32, residuals: &[i64]) {
    fn run<const ORDER: usize>(
        coefficients: &[i64; ORDER],
        samples: &mut [i32],
        from: usize,
        shift: u32,
        residuals: &[i64],
    ) {
        for (number, residual) in residuals.iter().enumerate() {
            let at = from + number;
            let guess = weighted(&samples[at - ORDER..at], coefficients) >> shift;
            samples[at] = guess.wrapping_add(*residual) as i32;
        }
    }
    for_order!(run, coefficients, (samples, from, shift, residuals));
}

/// What a sum of the samples before leaves of each.
fn linear_residuals(samples: &[i32], linear: &Linear, residuals: &mut Vec<i64>) {
    fn run<const ORDER: usize>(coefficients: &[i64; ORDER], samples: &[i32], shift: u32, residuals: &mut Vec<i64>) {
        let windows = samples.windows(ORDER + 1);
        residuals.extend(windows.map(|window| i64::from(window[ORDER]) - (weighted(window, coefficients) >> shift)));
    }
    for_order!(run, linear.coefficients, (samples, linear.shift, residuals));
}

/// Makes samples from `from` on of residuals and a polynomial; as many as its order lie before `from`.
pub(super) fn add_fixed(samples: &mut [i32], from: usize, order: usize, residuals: &[i64]) {
    for (number, residual) in residuals.iter().enumerate() {
        let at = from + number;
        samples[at] = fixed(&samples[..at], order).wrapping_add(*residual) as i32;
    }
}

/// Chooses a predictor and puts what it leaves into `residuals`.
pub(super) fn plan(samples: &[i32], residuals: &mut Vec<i64>) -> Plan {
    let (order, mean) = fixed_order(samples);
    let best_fixed = bits_of(mean, samples.len() - order) + 32.0 * order as f64;
    residuals.clear();
    if samples.len() >= SHORT
        && let Some((found, bits)) = linear_of(samples)
        && bits < best_fixed
    {
        linear_residuals(samples, &found, residuals);
        let sum: u64 = residuals
            .iter()
            .map(|residual| residual.unsigned_abs())
            .fold(0, u64::saturating_add);
        // Rounded coefficients may be worse than they seemed.
        if bits_of(sum as f64 / residuals.len() as f64, residuals.len()) <= best_fixed {
            return Plan::Linear(found);
        }
        residuals.clear();
    }
    residuals.extend((order..samples.len()).map(|at| i64::from(samples[at]) - fixed(&samples[..at], order)));
    Plan::Fixed(order)
}

/// About the bits of so many residuals of this mean size.
fn bits_of(mean: f64, count: usize) -> f64 {
    count as f64 * ((mean * 1.386).max(0.2).log2() + 1.6).max(0.3)
}

/// The order whose differences are smallest, and their mean size.
fn fixed_order(samples: &[i32]) -> (usize, f64) {
    let mut sums = [0_u64; 5];
    for window in samples.windows(5) {
        let Some(five) = window.first_chunk::<5>() else {
            continue;
        };
        let [a, b, c, d, e] = five.map(i64::from);
        let differences = [
            e,
            e - d,
            e - 2 * d + c,
            e - 3 * d + 3 * c - b,
            e - 4 * d + 6 * c - 4 * b + a,
        ];
        for (sum, difference) in sums.iter_mut().zip(differences) {
            *sum = sum.wrapping_add(difference.unsigned_abs());
        }
    }
    let count = samples.len().saturating_sub(4);
    if count == 0 {
        return (0, f64::from(i32::MAX));
    }
    let order = (0..5).min_by_key(|&order| sums[order]).unwrap_or(0);
    (order, sums[order] as f64 / count as f64)
}

/// The linear predictor that promises the fewest bits, and about how many.
fn linear_of(samples: &[i32]) -> Option<(Linear, f64)> {
    let autocorrelation = autocorrelation(samples);
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
        let mean = (error / samples.len() as f64).sqrt() * std::f64::consts::FRAC_1_SQRT_2 * 1.06;
        let bits = bits_of(mean, samples.len() - order - 1) + 46.0 * (order + 1) as f64;
        if best.as_ref().is_none_or(|(_, least)| bits < *least) {
            best = Some((coefficients[..=order].to_vec(), bits));
        }
    }
    let (coefficients, bits) = best?;
    Some((rounded(&coefficients)?, bits))
}

/// Of a block whose ends fade out.
fn autocorrelation(samples: &[i32]) -> [f64; MAX_ORDER + 1] {
    let len = samples.len();
    let fade = (len / 8).max(1);
    let faded: Vec<f32> = samples
        .iter()
        .enumerate()
        .map(|(at, &sample)| {
            let from_end = (at + 1).min(len - at);
            let weight = if from_end < fade {
                let x = from_end as f32 / fade as f32;
                x * (2.0 - x)
            } else {
                1.0
            };
            sample as f32 * weight
        })
        .collect();
    let mut sums = [0_f64; MAX_ORDER + 1];
    for (lag, sum) in sums.iter_mut().enumerate() {
        // In short pieces, so that single precision is enough within each.
        let pairs = faded[lag..].chunks(256).zip(faded[..len - lag].chunks(256));
        *sum = pairs
            .map(|(late, early)| {
                let mut lanes = [0_f32; 8];
                let (late_eights, early_eights) = (late.chunks_exact(8), early.chunks_exact(8));
                let rest: f32 = late_eights
                    .remainder()
                    .iter()
                    .zip(early_eights.remainder())
                    .map(|(a, b)| a * b)
                    .sum();
                for (late, early) in late_eights.zip(early_eights) {
                    for lane in 0..8 {
                        lanes[lane] += late[lane] * early[lane];
                    }
                }
                f64::from(lanes.iter().sum::<f32>() + rest)
            })
            .sum();
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
