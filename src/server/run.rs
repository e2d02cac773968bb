//! The control thread while the server runs, and the way to its end.

use core::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::names::Names;
use super::reload::Reloader;
use super::transports::Transports;
use super::{Server, stop_threads};
use crate::admin::{self, Admin, Changeable, Shards};
use crate::config::crypto;
use crate::partition::{Owners, ShardId};
use crate::shard::control::{Answer, Ask};
use crate::shard::mail::Mail;
use crate::uring::drive::ShardThread;
use crate::uring::post::{Control, ShardHandle};

/// Subscriptions are told of the end for at most so long.
const DRAIN: Duration = Duration::from_secs(2);
/// Where they outlive the process, their last words get so long: 720,000 of them took two seconds.
const KEEP: Duration = Duration::from_secs(10);
/// What a shard may need on top of that to answer.
const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// Requests to the admin port that are still being answered get so long.
const ADMIN_GRACE: Duration = Duration::from_secs(1);
/// How often the control thread looks whether its shards live.
const LOOK_AFTER_SHARDS: Duration = Duration::from_millis(500);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As asked, with everything told that could be told.
    Asked,
    /// At once, because the end was asked for twice.
    AtOnce,
    /// A shard's thread ended by itself.
    Failed,
}

/// Serves until a signal, then stops in order.
pub fn run(server: Server) -> How {
    let Server {
        threads,
        control,
        sockets,
        doors,
        dns,
        writer,
        secrets,
        policy,
        config,
        origin,
        admin_listener,
        runtime,
        signals: (mut signals, hang_up),
        started,
    } = server;
    let handles: Vec<ShardHandle> = (0..control.shards())
        .map(|shard| control.shard(ShardId(shard)))
        .collect();
    let posting = handles.clone();
    let shards = Shards::new(
        Owners::new(control.shards()),
        secrets.clone(),
        Box::new(move |shard, mail| posting[usize::from(shard.0)].send(mail)),
    );
    let (wish, wishes) = admin::wishes();
    let admin = Admin::new(
        shards.clone(),
        crypto::NAME,
        Changeable {
            domains: policy.domains().clone(),
            token: started.token,
        },
        wish,
    );
    let names = Names::new(dns.clone(), handles.clone());
    let transports = Transports::new(sockets, handles.clone(), shards.clone(), admin.clone());
    let reloader = Reloader {
        origin,
        secrets,
        config,
        policy,
        transports,
        doors,
        dns: dns.clone(),
        admin: admin.clone(),
        incomplete: false,
    };
    let within = if writer.is_some() { KEEP } else { DRAIN };
    let how = runtime.block_on(async move {
        let (stop_admin, stopped) = oneshot::channel();
        let serving = serve_admin(admin_listener, admin.clone(), stopped);
        tokio::spawn(admin::steer_reports(shards.clone()));
        let (control_back, pump) = pump_mail(control, shards.clone(), names);
        let reloading = tokio::spawn(reloader.serve(wishes, hang_up));

        if !signals.end_or_failure(&threads).await {
            tracing::error!("the thread of a shard has ended by itself");
            return How::Failed;
        }
        tracing::info!("stopping: subscriptions are told, or kept");
        admin.retire();
        reloading.abort();
        let stop = stop(
            &shards,
            within,
            stop_admin,
            serving,
            control_back,
            pump,
            threads,
        );
        tokio::select! {
            () = stop => How::Asked,
            () = signals.end() => How::AtOnce,
        }
    });
    runtime.shutdown_background();
    // No shard is left that could give out a record.
    if let Some(writer) = writer.filter(|_| how == How::Asked) {
        writer.stop();
    }
    how
}

/// The admin port, until it is told to stop.
fn serve_admin(
    listener: std::net::TcpListener,
    admin: Admin,
    stopped: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let served = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let stop = async move {
                    let _ = stopped.await;
                };
                admin::serve(listener, admin, stop).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::error!(%error, "the admin port failed");
        }
    })
}

/// Carries mail from the shards to those who wait for it. Gives the control end back when asked to.
fn pump_mail(
    mut control: Control,
    shards: Shards,
    names: Names,
) -> (oneshot::Sender<()>, JoinHandle<Control>) {
    let (give_back, mut asked) = oneshot::channel();
    let pump = tokio::spawn(async move {
        loop {
            tokio::select! {
                (shard, mail) = control.receive() => match mail {
                    Mail::Resolve(question) => names.look_up(shard, question),
                    mail => shards.deliver(mail),
                },
                _ = &mut asked => return control,
            }
        }
    });
    (give_back, pump)
}

/// In order: subscriptions are told, the admin port finishes what it began, the rings are emptied.
async fn stop(
    shards: &Shards,
    within: Duration,
    stop_admin: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    control_back: oneshot::Sender<()>,
    pump: JoinHandle<Control>,
    threads: Vec<ShardThread>,
) {
    let drains: Vec<_> = shards
        .ids()
        .map(|shard| {
            let shards = shards.clone();
            tokio::spawn(async move {
                let ask = Ask::Drain { within };
                shards.ask_within(shard, ask, within + DRAIN_GRACE).await
            })
        })
        .collect();
    let (mut told, mut stored, mut unanswered) = (0, 0, 0);
    for drain in drains {
        let drained = drain.await;
        if let Ok(Ok(Answer::Drained {
            notified,
            kept,
            left,
        })) = drained
        {
            told += notified;
            stored += kept;
            unanswered += left;
        } else {
            tracing::warn!(?drained, "a shard did not say that it is empty");
        }
    }
    tracing::info!(told, unanswered, stored, "stopping: sockets are closed");
    let _ = stop_admin.send(());
    if tokio::time::timeout(ADMIN_GRACE, serving).await.is_err() {
        tracing::debug!("a request to the admin port was cut off");
    }
    let _ = control_back.send(());
    let Ok(control) = pump.await else { return };
    let joined = tokio::task::spawn_blocking(move || stop_threads(threads, &control));
    if joined.await.is_err() {
        tracing::error!("a shard did not end in order");
    }
}

/// The signals that end the server.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// All signals that mean something: those that end the server, and the one that asks for a reload.
/// From here on none of them kills the process; what comes early waits until somebody looks.
pub(super) fn receive_signals() -> std::io::Result<(Signals, Signal)> {
    let signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    // A file that may not grow is a disk that fails, which ends nobody: the write says so (EFBIG).
    let _stays = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    Ok((signals, signal(SignalKind::hangup())?))
}

impl Signals {
    /// Waits until somebody wants the server to end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// True: somebody wants the end. False: a shard has ended by itself.
    async fn end_or_failure(&mut self, threads: &[ShardThread]) -> bool {
        let mut look = tokio::time::interval(LOOK_AFTER_SHARDS);
        loop {
            tokio::select! {
                () = self.end() => return true,
                _ = look.tick() => {
                    if threads.iter().any(ShardThread::is_finished) {
                        return false;
                    }
                }
            }
        }
    }
}
