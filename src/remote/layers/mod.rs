//! Decorators that any remote can wear; each is a [`Remote`](super::Remote) itself and adds one thing.
//!
//! From the inside out: [`Limit`] keeps the number of requests down, [`Retry`] sends again what may be sent again and
//! knows whether the remote can be reached, [`Trace`] counts and logs. None of them changes what an operation means: what
//! changes the remote is sent once, and what became of it is the engine's to find out.

mod lanes;
mod layer;
mod limit;
mod line;
mod quiet;
mod rate;
mod retry;
mod trace;
mod turn;

pub use limit::{Lane, Limit, Limits, SMALL, in_background, in_lane};
pub use line::Connection;
pub use rate::{Pace, Rate};
pub use retry::{Patience, Retry};
pub use trace::{LATENCIES, Operation, Trace, Traffic};
