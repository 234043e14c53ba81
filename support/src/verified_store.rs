//! An archive in a store with a base backup, and `walkeep verify` that reads one file at a time.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    kept::{days_ago, touch},
    push::{SYSTEM, succeeds},
    running::{Outcome, Running},
    store::fault::{Fault, Matching},
    store_scene::{StoreScene, key},
    verified::{BACKUP, LAST, NEEDED, OLD, VerifyOutput, backup_history, content, name},
    wait_until,
    wrapper::wrapped,
};

/// Restricts the command to one CPU, so that it reads one file at a time.
fn one_by_one(scene: &StoreScene, command: &Command) -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first: String = cores.chars().take_while(char::is_ascii_digit).collect();
    let mut taskset = scene.sandbox.command("taskset");
    taskset.args(["-c", &first]);
    wrapped(taskset, command)
}

/// Creates a store with six segments and a base backup from the third.
pub fn store() -> StoreScene {
    let mut scene = StoreScene::new();
    let file = scene.sandbox.file("walkeep.toml", "connections = 1\n");
    scene.set("WALKEEP_CONFIG", file.to_str().unwrap());
    for number in 1..=6 {
        let name = name(1, number);
        scene.primary.file(&format!("pg_wal/{name}"), content(&name));
        succeeds(scene.push(&name));
    }
    scene.primary.file(&format!("pg_wal/{BACKUP}"), backup_history(3, 3, "nightly"));
    succeeds(scene.push(BACKUP));
    scene.store.forget_requests();
    scene
}

pub fn verify(scene: &StoreScene, options: &[&str]) -> Command {
    let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
    command.arg("verify").args(options);
    one_by_one(scene, &command)
}

/// Lists the names of the objects requested with this method.
pub fn asked(scene: &StoreScene, method: &str) -> Vec<String> {
    let requests = scene.store.requests().into_iter().filter(|request| request.method == method);
    let names = requests.map(|request| request.path.rsplit('/').next().unwrap().to_owned());
    names.collect()
}

pub fn report(scene: &StoreScene) -> Value {
    let report = scene.store.get(&format!("main/{SYSTEM}/reports/verify.json")).unwrap();
    serde_json::from_slice(&report).unwrap()
}

/// Admits three requests with names that sort late: for the last report, the acknowledgements, and the newest
/// segment, which determines the size.
pub fn let_the_survey_through(scene: &StoreScene) {
    scene.store.break_times(3, Matching::GetsFrom("000000010000000000000006"), Fault::None);
}

/// Verifies until segment 5 hangs, with segment 2 damaged, and stops it there.
pub fn interrupted(scene: &StoreScene, options: &[&str], signal: Signal) -> Outcome {
    scene.store.put(&key(OLD), "rubbish");
    // As if archived in the order of names: the two at the ends then determine the size.
    for number in 1..=6 {
        touch(&scene.store.file(&key(&name(1, number))), days_ago(1));
    }
    let_the_survey_through(scene);
    scene.store.break_with(Matching::GetsFrom("000000010000000000000005"), Fault::Hang);
    let mut command = verify(scene, &[&["--note-every", "1ms"], options].concat());
    command.stdout(Stdio::null());
    let running = Running::start(command);
    wait_until("all before segment 5 are verified, and it is asked for", || {
        let noted = scene.store.get(&format!("main/{SYSTEM}/reports/verify.json")).unwrap_or_default();
        let noted: Value = serde_json::from_slice(&noted).unwrap_or_default();
        noted["checked_up_to"] == NEEDED && asked(scene, "GET").contains(&LAST.to_owned())
    });
    running.signal(signal);
    let outcome = running.end();
    scene.store.heal();
    scene.store.forget_requests();
    outcome
}

/// Runs a verification, and an action once everything before a segment is verified.
pub fn verified_while(
    scene: &mut StoreScene,
    options: &[&str],
    segment: &'static str,
    meanwhile: impl FnOnce(&StoreScene) + Send,
) -> VerifyOutput {
    scene.cut_soon();
    scene.store.break_with(Matching::Of(segment), Fault::Hang);
    let scene = &*scene;
    let mut verdict = thread::scope(|scope| {
        scope.spawn(move || {
            wait_until("the segment is asked for", || asked(scene, "GET").contains(&segment.to_owned()));
            meanwhile(scene);
            scene.store.heal();
        });
        VerifyOutput::of(verify(scene, options))
    });
    assert!(
        verdict.stderr.contains(": warning: ") && verdict.stderr.lines().count() == 1,
        "{}",
        verdict.stderr
    );
    verdict.stderr.clear();
    verdict
}

/// Removes an object without a request.
pub fn remove(scene: &StoreScene, name: &str) {
    fs::remove_file(scene.store.file(&key(name))).unwrap();
}
