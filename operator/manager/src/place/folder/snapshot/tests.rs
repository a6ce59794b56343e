use std::time::Instant;

use idm_permission::Kind;

use super::*;

const CREDENTIAL: ObjectKind = ObjectKind::Ours(Kind::Credential);

fn robots(count: usize) -> Files {
    let robot = |number: usize| {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\n\
             metadata: {{name: robot-{number:06}, labels: {{identity-manager.io/team: team-{}}}}}\n\
             spec: {{apiKey: {{}}, secretRef: {{name: k}}, owner: {{application: App-{number}}}}}\n",
            number % 10
        )
    };
    vec![("a.yaml".into(), (0..count).map(robot).collect())]
}

/// Pages of a large folder look at rows and parse nothing.
#[test]
fn a_page_of_100_000_credentials_is_a_walk_over_rows() {
    let heads = (0..100_000).map(|number| {
        let name = format!("robot-{number:06}");
        let head = Head {
            kind: CREDENTIAL,
            team: Some(format!("team-{}", number % 10)),
            version: String::new(),
            searched: format!("{name}\napp-{number}\n"),
            name: name.clone(),
        };
        let span = Span { bytes: 0..0, lines_before: 0 };
        ((CREDENTIAL, name), Row { head: Arc::new(head), file: 0, span })
    });
    let empty = FolderReader::default().of(robots(0), Settings::of_a_folder(false));
    let snapshot = Snapshot { rows: heads.collect(), ..empty };
    let began = Instant::now();
    let first = snapshot.page(CREDENTIAL, None, None, None, 50);
    println!("the first page of 100,000: {:?}", began.elapsed());
    assert_eq!((first.rows.len(), first.total), (50, 100_000));
    let next = snapshot.page(CREDENTIAL, None, None, first.next.as_deref(), 50);
    assert_eq!(next.rows.first().map(|row| row.head.name.as_str()), Some("robot-000050"));
    let began = Instant::now();
    let found = snapshot.page(CREDENTIAL, Some("team-9"), Some("app-9999"), None, 50);
    println!("a search of them: {:?}", began.elapsed());
    assert_eq!((found.total, found.rows.len(), found.next), (2, 2, None));
}

#[test]
fn what_did_not_change_is_not_parsed_again() {
    let mut reader = FolderReader::default();
    let settings = Settings::of_a_folder(false);
    let first = reader.of(robots(3), settings);
    let mut files = robots(3);
    files[0].1 = files[0].1.replace("App-1", "Other");
    let second = reader.of(files, settings);
    let head = |snapshot: &Snapshot, name: &str| snapshot.rows[&(CREDENTIAL, name.to_owned())].head.clone();
    assert!(Arc::ptr_eq(&head(&first, "robot-000000"), &head(&second, "robot-000000")));
    assert!(!Arc::ptr_eq(&head(&first, "robot-000001"), &head(&second, "robot-000001")));
    assert_ne!(head(&first, "robot-000001").version, head(&second, "robot-000001").version);
}

#[test]
fn faults_are_told_at_their_object_and_field() {
    let mut files = robots(2);
    files[0].1 += "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: broken}\n\
                   spec:\n  apiKey: {}\n  secretRef: {name: k}\n  nothing: 1\n";
    let snapshot = FolderReader::default().of(files, Settings::of_a_folder(false));
    let of = |name: &str| snapshot.findings(snapshot.row(CREDENTIAL, name).expect("a row"));
    assert_eq!(of("broken").len(), 1);
    assert_eq!(of("broken")[0].field, "spec.nothing");
    assert!(of("robot-000000").is_empty());
    assert_eq!(field_of("spec.limits[0].rate: invalid type").as_deref(), Some("spec.limits[0].rate"));
    assert_eq!(field_of("something: else"), None);
}
