use super::*;

#[test]
fn the_next_page_begins_behind_the_last_record() {
    let hit = |time: u64, id: &str| json!({"_source": {"kind": "Change", "id": id}, "sort": [time, id]});
    let full = json!({"hits": {"hits": [hit(9, "b"), hit(9, "a")]}});
    let first = page(full.clone(), 2);
    let next = first.next.unwrap();
    assert_eq!(next, Cursor::Server { time: Timestamp(9), id: "a".into() });
    let body = query(&RecordFilter::default(), Some(&next), 2).unwrap();
    assert_eq!(body["search_after"], json!([9, "a"]));
    assert_eq!(body["sort"][0]["@timestamp"]["order"], "desc");
    assert_eq!(body["sort"][1]["id"]["order"], "desc", "records of one time have an order, too");
    assert!(page(full, 3).next.is_none(), "a page that is not full is the last");
    assert!(page(json!({}), 3).items.is_empty());
}

#[test]
fn a_cursor_of_a_folder_is_refused() {
    let cursor = Cursor::Folder { segment: 1, offset: 1 };
    assert_eq!(query(&RecordFilter::default(), Some(&cursor), 1), Err(NoCursor));
}
