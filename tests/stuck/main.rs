//! No subscription can be stuck: whatever fails and ends at whatever step of its life, it shows the newest state, or it is
//! gone in time, and nothing of it is left. No kernel, no clock.

mod connections;
#[path = "../streams/house.rs"]
mod house;
mod sends;
#[path = "../support/site.rs"]
mod site;
mod storm;
