//! The memory of a running server: what was handed on is gone from it, and it goes nowhere by itself.

use std::{io, os::unix::process::ExitStatusExt as _};

use serde_json::json;

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    memory::search_memory,
    on_each_database, programs,
    search::{Search, sentinel},
    server::Server,
    steps::{resolve, resolver},
};

on_each_database!(values_are_gone_from_memory_when_their_calls_are_over);

async fn values_are_gone_from_memory_when_their_calls_are_over(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (value, other, part) = (sentinel(), sentinel(), sentinel());
    let long = part.repeat(400);
    {
        let set = json!({"secrets": {"VALUE": value, "LONG": long}});
        assert_eq!(server.rest().patch(&secrets_of(&agent)).json(&set).send().await.status, 200);
        server.set(&agent, &json!({"OTHER": other})).await;
        let resolved = resolve(&resolver(&server).await, &agent).await.unwrap();
        assert_eq!((&resolved["VALUE"], &resolved["OTHER"], &resolved["LONG"]), (&value, &other, &long));
        // Refused ones too
        let refused = json!({"secrets": {"not a name": value}});
        assert_eq!(server.rest().patch(&secrets_of(&agent)).json(&refused).send().await.status, 422);
    }
    let known = Search::new([("the admin's token", server.admin_token())]);
    match search_memory(server.process_id(), &known) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            programs::say_once("only root can look into the server's memory: it was not searched\n");
            return;
        }
        found => assert!(!found.unwrap().is_empty(), "the environment has it: the search sees too little"),
    }
    let search = Search::new([("a value", &*value), ("another", &*other), ("a part of a long one", &*part)]);
    let found = async || {
        let found = search_memory(server.process_id(), &search).unwrap();
        if found.is_empty() { Some(()) } else { None }
    };
    eventually("no value to be in memory", found).await;
}

#[tokio::test]
async fn a_server_that_falls_leaves_no_core_dump() {
    let mut server = Server::start(Database::Sqlite);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process_id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let (soft, hard) = (core.split_whitespace().nth(4), core.split_whitespace().nth(5));
    assert_eq!((soft, hard), (Some("0"), Some("0")), "it can never be raised again: {core}");
    server.signal_to_abort();
    let status = server.wait_for_end();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
