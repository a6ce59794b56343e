//! At a limit, a connection without a request is closed for a new connection, and an answer that its caller does not
//! read is ended for a new request. If this core has neither, it asks the other cores.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::limits::Full;
use crate::shared::Shared;
use crate::watch::{Cause, Connections, Spare};

/// The number of new connections and requests of a core that may wait for the answers of other cores.
const MAX_WAITING: usize = 256;

/// The resource that a new connection or request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The place of a connection without a request.
    Place(Spare),
    /// The place of a request whose answer the caller does not read.
    Stalled,
}

/// A request from another core for one of its newcomers.
pub(crate) struct Plea {
    need: Need,
    full: Full,
    address: IpAddr,
    given: oneshot::Sender<bool>,
}

/// The channels between the cores, by number.
pub(crate) type Cores = Arc<[mpsc::UnboundedSender<Plea>]>;

/// Makes the channels for this number of cores.
pub(crate) fn cores(count: usize) -> (Cores, Vec<mpsc::UnboundedReceiver<Plea>>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    (senders.into(), receivers)
}

/// Makes room for newcomers of one core.
pub(crate) struct Room {
    number: usize,
    cores: Cores,
    pub(crate) connections: Rc<Connections>,
    shared: Arc<Shared>,
    waiting: Cell<usize>,
    /// One newcomer at a time searches for a place: the next one may then take a place that this core has got
    /// meanwhile,
    /// and a core that many callers reach at once does not take all the places of the others.
    search: Semaphore,
}

impl Room {
    pub(crate) fn new(number: usize, cores: Cores, connections: Rc<Connections>, shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self { number, cores, connections, shared, waiting: Cell::new(0), search: Semaphore::new(1) })
    }

    /// The number of cores.
    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Ends a connection or an answer of this core. Returns whether there was one to end.
    pub(crate) fn give(&self, need: Need, full: Full, address: IpAddr) -> bool {
        let (cause, ended) = match need {
            Need::Place(spare) => (Cause::Displaced, u64::from(self.connections.displace(full, address, spare))),
            Need::Stalled => (Cause::SlowWrite, self.connections.end_stalled(full, address)),
        };
        self.shared.metrics.connections_closed(cause, ended);
        ended > 0
    }

    /// Makes room for a connection when this core has no connection that has waited for its first head: another core
    /// closes such a connection, or else one closes a connection that is worth more.
    pub(crate) async fn for_connection(&self, full: Full, address: IpAddr) -> bool {
        if self.waiting.get() >= MAX_WAITING {
            return Spare::ALL.into_iter().any(|spare| self.give(Need::Place(spare), full, address));
        }
        let _one = Waits::new(&self.waiting);
        let Ok(_search) = self.search.acquire().await else { return false };
        for need in Spare::ALL.map(Need::Place) {
            if self.give(need, full, address) || self.ask(need, full, address).await {
                return true;
            }
        }
        false
    }

    /// Room for a request.
    pub(crate) async fn for_request(&self, full: Full, address: IpAddr) -> bool {
        if self.give(Need::Stalled, full, address) {
            // Its place is free once its task has been dropped.
            tokio::task::yield_now().await;
            return true;
        }
        if self.waiting.get() >= MAX_WAITING {
            return false;
        }
        let _one = Waits::new(&self.waiting);
        self.ask(Need::Stalled, full, address).await
    }

    /// Asks the other cores, one after the other.
    async fn ask(&self, need: Need, full: Full, address: IpAddr) -> bool {
        for (_, core) in self.cores.iter().enumerate().filter(|(number, _)| *number != self.number) {
            let (given, answer) = oneshot::channel();
            // A core that has stopped gives no place.
            if core.send(Plea { need, full, address, given }).is_ok() && answer.await == Ok(true) {
                return true;
            }
        }
        false
    }

    /// Answers the other cores until the server stops.
    pub(crate) async fn answer(&self, mut pleas: mpsc::UnboundedReceiver<Plea>) {
        while let Some(Plea { need, full, address, given }) = pleas.recv().await {
            let gave = self.give(need, full, address);
            if gave {
                tokio::task::yield_now().await;
            }
            let _ = given.send(gave);
        }
    }
}

/// A newcomer that waits; one whose caller disconnected counts, too.
struct Waits<'a>(&'a Cell<usize>);

impl<'a> Waits<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use idm_metrics::{Exposition, Format};

    use super::*;
    use crate::limits::{Limits, Place, Table};
    use crate::turns::Turns;
    use crate::watch::{Deadlines, Member};

    /// Two cores of one server, both on this thread.
    struct Server {
        shared: Arc<Shared>,
        table: Arc<Table>,
        rooms: [Rc<Room>; 2],
        connections: [Rc<Connections>; 2],
    }

    fn on_two_cores<F: Future<Output = ()>>(limit: usize, test: impl FnOnce(Server) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let shared = Shared::new("test", idm_decide::BodyLimits::default(), Default::default());
            let limits = Limits {
                connections: limit,
                connections_per_address: None,
                requests: limit,
                requests_per_address: None,
            };
            let (cores, pleas) = cores(2);
            let connections = [0, 1].map(|_| Connections::new(Deadlines::default()));
            let rooms = [0, 1].map(|n| Room::new(n, cores.clone(), connections[n].clone(), shared.clone()));
            for (room, pleas) in rooms.iter().cloned().zip(pleas) {
                tokio::task::spawn_local(async move { room.answer(pleas).await });
            }
            test(Server { table: Table::new(limits, shared.clone()), shared, rooms, connections }).await;
        });
    }

    impl Server {
        /// A connection on one core that lives until it is ended.
        fn connect(&self, core: usize, last: u8) -> (tokio::task::JoinHandle<()>, Option<Full>) {
            let (place, full) = self.table.open([192, 0, 2, last].into());
            let member = self.connections[core].add(&place);
            (tokio::task::spawn_local(live(member, place)), full)
        }
    }

    async fn live(member: Member, place: Place) {
        member.connection.live(&Turns::default(), std::future::pending()).await;
        drop(place);
    }

    #[test]
    fn a_flood_on_one_core_gives_way_to_a_newcomer_on_another() {
        on_two_cores(4, |server| async move {
            let flood: Vec<_> = (0..3).map(|_| server.connect(0, 1)).collect();
            assert!(flood.iter().all(|(_, full)| full.is_none()));
            let (place, full) = server.table.open([192, 0, 2, 1].into());
            let full = full.expect("its address is full");
            assert!(!server.rooms[1].give(Need::Place(Spare::Stranger), full, place.address()), "this core has none");
            assert!(server.rooms[1].for_connection(full, place.address()).await);
            let mut flood = flood.into_iter();
            flood.next().expect("there is one").0.await.expect("the oldest was ended");
            assert!(flood.all(|(task, _)| !task.is_finished()));
            assert_eq!(place.requests().connections(), 3);
            let mut metrics = Exposition::new(Format::Prometheus);
            server.shared.metrics.render(&mut metrics);
            let metrics = metrics.finish();
            assert!(metrics.contains("cause=\"displaced\"} 1"));
        });
    }

    #[test]
    fn newcomers_of_one_core_take_one_place_of_another_core_and_then_their_own() {
        on_two_cores(8, |server| async move {
            let there: Vec<_> = (1..=8).map(|last| server.connect(0, last)).collect();
            assert!(there.iter().all(|(_, full)| full.is_none()));
            let newcomers: Vec<_> = (11..=30)
                .map(|last| {
                    let (place, full) = server.table.open([192, 0, 2, last].into());
                    let (room, connections) = (server.rooms[1].clone(), server.connections[1].clone());
                    tokio::task::spawn_local(async move {
                        let full = full.expect("there is no place left");
                        assert!(room.for_connection(full, place.address()).await);
                        tokio::task::spawn_local(live(connections.add(&place), place));
                    })
                })
                .collect();
            for newcomer in newcomers {
                newcomer.await.expect("it has a place");
            }
            let ended = there.iter().filter(|(task, _)| task.is_finished()).count();
            assert_eq!(ended, 1, "those who were there keep their places while their first heads may be under way");
        });
    }

    #[test]
    fn another_address_gives_nothing_up_for_a_full_one() {
        on_two_cores(100, |server| async move {
            let (other, _) = server.connect(0, 2);
            let (place, _) = server.table.open([192, 0, 2, 1].into());
            assert!(!server.rooms[1].for_connection(Full::Address, place.address()).await);
            assert!(!server.rooms[1].for_request(Full::Address, place.address()).await);
            assert!(!other.is_finished());
        });
    }
}
