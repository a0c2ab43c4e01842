//! The row of choices that a statement is made of: drawn at random, or played again.

/// Where choices come from. The alternative 0 is always the plainest one.
#[derive(Clone, Debug)]
pub struct Choices {
    state: u64,
    given: Option<Vec<u32>>,
    made: Vec<u32>,
}

impl Choices {
    /// Draws by a seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            state: seed,
            given: None,
            made: Vec::new(),
        }
    }

    /// Plays choices again; behind their end everything is plain.
    pub fn replay(given: &[u32]) -> Self {
        Self {
            state: 0,
            given: Some(given.to_vec()),
            made: Vec::new(),
        }
    }

    /// What was chosen so far.
    pub fn made(&self) -> &[u32] {
        &self.made
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u32::try_from(end.max(1)).unwrap_or(u32::MAX);
        let number = match &self.given {
            Some(given) => given
                .get(self.made.len())
                .map_or(0, |number| (*number).min(end - 1)),
            None => self.draw(end),
        };
        self.made.push(number);
        number as usize
    }

    /// True `share` times in a hundred.
    pub(super) fn percent(&mut self, share: u32) -> bool {
        self.weighted(&[100 - share, share]) == 1
    }

    /// The index of one of the weights.
    pub(super) fn weighted(&mut self, weights: &[u32]) -> usize {
        let index = match &self.given {
            Some(_) => return self.below(weights.len()),
            None => {
                let total = weights.iter().sum::<u32>().max(1);
                let mut left = self.draw(total);
                weights
                    .iter()
                    .position(|weight| {
                        let here = left < *weight;
                        left = left.wrapping_sub(if here { 0 } else { *weight });
                        here
                    })
                    .unwrap_or(0)
            }
        };
        self.made.push(index as u32);
        index
    }

    /// One of several.
    pub(super) fn of<'t, T>(&mut self, several: &'t [T]) -> &'t T {
        let index = self.below(several.len());
        &several[index]
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn draw(&mut self, end: u32) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(end)) as u32
    }
}
