//! Connections: bounded, closed in time, and never left in an unknown state.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::pool::Pool;
use super::*;

/// Waits ten seconds for names that begin with `slow`.
const POSTGRES: &str = "SELECT username, password, enabled FROM people,
    (SELECT pg_sleep(CASE WHEN $1 LIKE 'slow%' THEN 10 ELSE 0 END)) s WHERE username = $1";
const MYSQL: &str = "SELECT username, password, enabled FROM people,
    (SELECT sleep(CASE WHEN ? LIKE 'slow%' THEN 10 ELSE 0 END)) s WHERE username = ?";

/// 400 people, who all have the same password.
fn table(series: &str) -> String {
    format!(
        "CREATE TABLE people (username varchar(40), password varchar(99), enabled boolean);
         INSERT INTO people SELECT concat('user', n), '{SHA}', true FROM {series};
         INSERT INTO people SELECT concat('slow', n), '{SHA}', true FROM {series}"
    )
}

fn postgres_people(server: &PostgresServer) -> (String, DatabaseDirectory) {
    let name = server.database("");
    let table = table("generate_series(0, 199) n");
    server.sql(&name, &format!("{table}; GRANT ALL ON people TO gateway, cut"));
    let plan = plan(DatabaseProduct::PostgreSql, server.port, &name, POSTGRES);
    (name, plan)
}

fn mariadb_people(server: &MariaDbServer) -> (String, DatabaseDirectory) {
    let name = server.database("");
    server.sql(&format!("USE {name}; {}", table("(SELECT seq n FROM seq_0_to_199) s")));
    let plan = plan(DatabaseProduct::MySql, server.port, &name, MYSQL);
    (name, DatabaseDirectory { person: statement(MYSQL, &[Parameter::Username, Parameter::Username]), ..plan })
}

fn postgres_connections(server: &PostgresServer, name: &str) -> usize {
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
    server.sql("postgres", &count).parse().unwrap()
}

fn mariadb_connections(server: &MariaDbServer, name: &str) -> usize {
    let count = format!("SELECT count(*) FROM information_schema.processlist WHERE db = '{name}'");
    server.sql(&count).parse().unwrap()
}

/// Begins so many questions, four at a time, and drops each after up to 30 ms, wherever it is by then.
async fn cut(database: &Database, count: usize, name: impl Fn(usize) -> String) {
    let all = (0..count).map(|number| {
        let name = name(number);
        async move {
            let time = Duration::from_micros((number as u64 * 7919) % 30_000);
            let deadline = Instant::now() + Duration::from_millis(50);
            let question = database.verify(login(&name, RIGHT, Steps::default()), deadline);
            let _ = tokio::time::timeout(time, question).await;
        }
    });
    futures::StreamExt::for_each_concurrent(futures::stream::iter(all), 4, |question| question).await;
    // The server may need a moment for all the connections that came and went.
    until("a login", async || verify(database, "user1", RIGHT).await.is_ok()).await;
}

/// Every login gets the answer to its own question.
async fn all_are_themselves(database: &Database) {
    let logins = (0..40).map(|number| async move {
        let name = format!("user{number}");
        assert_eq!(verified(database, &name).await.username, name);
    });
    futures::StreamExt::for_each_concurrent(futures::stream::iter(logins), 6, |login| login).await;
}

#[tokio::test]
async fn r52_a_thousand_cut_questions_leave_nothing_behind_in_postgresql() {
    let server = PostgresServer::shared();
    let (name, plan) = postgres_people(&server);
    let database = open(&DatabaseDirectory { user: "cut".into(), ..plan });
    let of = |number: usize| {
        if number.is_multiple_of(3) { format!("slow{}", number % 200) } else { format!("user{}", number % 200) }
    };
    cut(&database, 1000, of).await;
    all_are_themselves(&database).await;
    until("the end of cut questions", async || postgres_connections(&server, &name) <= 8).await;
}

#[tokio::test]
async fn r52_a_thousand_cut_questions_leave_nothing_behind_in_mariadb() {
    let server = MariaDbServer::shared();
    let (name, plan) = mariadb_people(&server);
    let database = open(&plan);
    // A question that sleeps is ended by the server after one second, which is its smallest limit.
    let of = |number: usize| {
        if number.is_multiple_of(50) { format!("slow{}", number % 200) } else { format!("user{}", number % 200) }
    };
    cut(&database, 1000, of).await;
    all_are_themselves(&database).await;
    until("the end of cut questions", async || mariadb_connections(&server, &name) <= 8).await;
}

#[tokio::test]
async fn r52_logins_beyond_all_connections_are_busy_after_a_second() {
    let server = PostgresServer::shared();
    let (_, plan) = postgres_people(&server);
    let database = open(&plan);
    let deadline = Instant::now() + Duration::from_millis(2500);
    let slow = (0..8).map(|number| database.verify(login(&format!("slow{number}"), RIGHT, Steps::default()), deadline));
    let slow = futures::future::join_all(slow);
    let other = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        assert_eq!(failed(&database, "user1").await.0, DirectoryErrorKind::Busy(1));
        assert!(began.elapsed() >= Duration::from_secs(1));
    };
    let (slow, ()) = tokio::join!(slow, other);
    for answer in slow {
        assert_eq!(answer.unwrap_err().kind, DirectoryErrorKind::Unavailable, "never Unknown");
    }
    verified(&database, "user1").await;
}

/// Accepts connections and closes them at once; counts them.
async fn slamming() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (port, count)
}

#[tokio::test]
async fn r52_a_server_that_is_down_is_not_tried_at_each_login() {
    for product in [DatabaseProduct::PostgreSql, DatabaseProduct::MySql] {
        let (port, count) = slamming().await;
        let database = open(&plan(product, port, "people", "SELECT 1"));
        for _ in 0..200 {
            let (kind, detail) = failed(&database, "ana").await;
            assert_eq!(kind, DirectoryErrorKind::Unavailable, "{detail}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let tried = count.load(Ordering::SeqCst);
        assert!((2..=8).contains(&tried), "{tried} connections in a second");
    }
}

#[tokio::test]
async fn r52_idle_connections_are_closed() {
    let server = PostgresServer::shared();
    let (name, plan) = postgres_people(&server);
    let opener = Database::opener(&plan, &secrets(), reach()).unwrap();
    let database = Database::over(&plan, Pool::with_idle_limit(opener, Duration::from_millis(300)));
    for _ in 0..2 {
        all_are_themselves(&database).await;
        assert!((1..=8).contains(&postgres_connections(&server, &name)));
        until("the end of idle connections", async || postgres_connections(&server, &name) == 0).await;
    }
}

#[tokio::test]
async fn r52_connections_that_the_server_has_ended_are_noticed() {
    let (postgres, mariadb) = (PostgresServer::shared(), MariaDbServer::shared());
    let (name, plan) = postgres_people(&postgres);
    let plan = with_tls(plan, postgres.certificates.roots());
    let database = open(&plan);
    for _ in 0..3 {
        all_are_themselves(&database).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        postgres.sql("postgres", &end);
        verified(&database, "user1").await;
    }
    let (name, plan) = mariadb_people(&mariadb);
    let database = open(&with_tls(plan, mariadb.certificates.roots()));
    for _ in 0..3 {
        all_are_themselves(&database).await;
        let ids = format!(
            "SELECT group_concat(concat('KILL ', id) SEPARATOR ';')
            FROM information_schema.processlist WHERE db = '{name}'"
        );
        mariadb.sql(&mariadb.sql(&ids));
        verified(&database, "user1").await;
    }
}

/// Passes octets on until it is told to be deaf for the connections that it has.
pub(super) struct Proxy {
    pub(super) port: u16,
    deaf: Arc<std::sync::Mutex<Arc<AtomicBool>>>,
}

impl Proxy {
    pub(super) async fn start(listen: &str, to: u16) -> Self {
        let listener = TcpListener::bind((listen, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let deaf: Arc<std::sync::Mutex<Arc<AtomicBool>>> = Arc::default();
        let of_new = deaf.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let deaf = of_new.lock().unwrap().clone();
                let (near, far) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near.0, far.1, deaf.clone()));
                tokio::spawn(pass(far.0, near.1, deaf));
            }
        });
        Self { port, deaf }
    }

    /// Swallows what comes on all connections that are open now; they stay open.
    fn swallow(&self) {
        let mut deaf = self.deaf.lock().unwrap();
        deaf.store(true, Ordering::SeqCst);
        *deaf = Arc::default();
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    deaf: Arc<AtomicBool>,
) {
    let mut octets = [0; 4096];
    while let Ok(count @ 1..) = tokio::io::AsyncReadExt::read(&mut from, &mut octets).await {
        if !deaf.load(Ordering::SeqCst) && to.write_all(&octets[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn r52_connections_that_were_cut_without_notice_are_replaced_within_the_deadline() {
    let server = PostgresServer::shared();
    let (_, plan) = postgres_people(&server);
    let proxy = Proxy::start("127.0.0.1", server.port).await;
    let server_of_it = DirectoryServer { port: proxy.port, ..plan.server.clone() };
    let database = open(&DatabaseDirectory { server: server_of_it, ..plan });
    for _ in 0..2 {
        all_are_themselves(&database).await;
        proxy.swallow();
        let began = Instant::now();
        verified(&database, "user1").await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn r09_an_outage_is_an_error_and_never_unknown() {
    let server = PostgresServer::start();
    let (_, plan) = postgres_people(&server);
    let database = open(&plan);
    verified(&database, "user1").await;
    server.stop();
    for name in ["user1", "nobody"] {
        assert_eq!(failed(&database, name).await.0, DirectoryErrorKind::Unavailable);
        let looked_up = database.look_up(name.into(), name.into(), soon()).await;
        assert_eq!(looked_up.unwrap_err().kind, DirectoryErrorKind::Unavailable);
    }
    server.restart();
    until("an answer", async || verify(&database, "user1", "wrong").await == WRONG).await;
    verified(&database, "user1").await;
}
