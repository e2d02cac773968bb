//! The configuration: what a file and the command line say, read into types that cannot be wrong,
//! and the limits that every layer may name. It opens no socket and starts nothing.

pub mod limits;

#[cfg(feature = "server")]
pub mod crypto;
#[cfg(feature = "server")]
mod file;
#[cfg(feature = "server")]
mod listen;
#[cfg(feature = "server")]
mod problem;
#[cfg(feature = "server")]
mod refuse;
#[cfg(feature = "server")]
mod section;
#[cfg(feature = "server")]
mod service;
#[cfg(feature = "server")]
mod settings;
#[cfg(all(test, feature = "server"))]
mod tests;
#[cfg(feature = "server")]
mod tls;
#[cfg(feature = "server")]
mod web;
#[cfg(feature = "server")]
mod who;

#[cfg(feature = "server")]
pub use file::{LoadError, load, parse};
#[cfg(feature = "server")]
pub use problem::{Problem, Problems};
#[cfg(feature = "server")]
pub use settings::{
    Admin, Advertise, Certificate, ClientCertificates, Config, DEFAULT_ADMIN, Dns, Flags, Listener,
    Pin, Tls,
};
