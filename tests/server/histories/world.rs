//! A cluster and its archive: everything that its servers wrote, and the current state of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use proptest::sample::Index;
use walkeep::wal::{Lsn, SegmentName, SegmentSize, TimelineId, WalName};

use super::events::{Event, ForkPlace, History, ParentSegment};
use super::recovery::{Archive, BaseBackup, Content, Position, Tli};

/// Archived files, with their archiving times.
pub(crate) type Files = BTreeMap<WalName, Timestamp>;

/// A timeline with its server.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Entries of its history file.
    pub(crate) history: Vec<(Tli, Position)>,
    /// Actual writers of the WAL before it.
    before: Vec<(Tli, Position)>,
    pub(crate) begin: Position,
    pub(crate) end: Position,
    alive: bool,
    /// Files waiting to be archived, if archiving has stopped.
    stalled: Option<Vec<WalName>>,
    /// First segment that was not finished.
    pub(crate) unfinished: u64,
}

/// A base backup.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    pub(crate) is: BaseBackup,
    pub(crate) began: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    /// Server on which it runs; `None` if that has failed.
    pub(crate) on: Option<Tli>,
    /// Position of that server at its start.
    from: Position,
    /// `true` if its files are in a directory known to walkeep.
    pub(crate) found: bool,
}

/// The whole state.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) size: SegmentSize,
    pub(crate) lines: BTreeMap<Tli, Line>,
    pub(crate) files: Files,
    /// First archiving times of backup history files, which a copy does not change.
    pub(crate) first_archived: Files,
    pub(crate) backups: Vec<Backup>,
    pub(crate) now: Timestamp,
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

pub(crate) fn timeline(tli: Tli) -> TimelineId {
    TimelineId::new(tli).unwrap()
}

fn pick<T: Clone>(index: Index, among: impl IntoIterator<Item = T>) -> Option<T> {
    let all: Vec<T> = among.into_iter().collect();
    (!all.is_empty()).then(|| all[index.index(all.len())].clone())
}

/// A short form for people who look for the cause of a failure.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at =
            |position: Position| format!("{}.{}", self.number_of(position), position / self.eighth() % 8);
        writeln!(f, "now {}", self.now)?;
        for (tli, line) in &self.lines {
            let forks = line.history.iter().map(|(tli, left)| format!(" {tli}@{}", at(*left)));
            let forks: String = forks.collect();
            writeln!(f, "timeline {tli}:{forks}; written {} to {}", at(line.begin), at(line.end))?;
        }
        for (index, backup) in self.backups.iter().enumerate() {
            let BaseBackup { tli, redo, checkpoint, stop, stop_tli, from_standby } = backup.is;
            let [redo, checkpoint, stop] = [redo, checkpoint, stop].map(at);
            let ended = backup.ended.map_or_else(|| "runs".to_owned(), |ended| ended.to_string());
            let place =
                [if from_standby { " standby" } else { "" }, if backup.found { " found" } else { "" }]
                    .concat();
            writeln!(f, "b{index}: {tli}:{redo} ({checkpoint}) to {stop_tli}:{stop}; {ended}{place}")?;
        }
        for (name, since) in &self.files {
            writeln!(f, "{name} {since}")?;
        }
        Ok(())
    }
}

impl World {
    pub(crate) fn new(history: &History) -> Self {
        let size = SegmentSize::new(history.segment_mb << 20).unwrap();
        let begin = history.begins_in * size.bytes();
        let first = Line {
            history: Vec::new(),
            before: Vec::new(),
            begin,
            end: begin,
            alive: true,
            stalled: None,
            unfinished: history.begins_in,
        };
        Self {
            size,
            lines: BTreeMap::from([(1, first)]),
            files: Files::new(),
            first_archived: Files::new(),
            backups: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn eighth(&self) -> u64 {
        self.size.bytes() / 8
    }

    pub(crate) fn number_of(&self, position: Position) -> u64 {
        position / self.size.bytes()
    }

    pub(crate) fn segment(&self, tli: Tli, number: u64) -> SegmentName {
        SegmentName::from_number(timeline(tli), number, self.size).unwrap()
    }

    /// Returns the name of a base backup's backup history file.
    pub(crate) fn backup_file(&self, backup: &BaseBackup) -> WalName {
        let segment = self.segment(backup.tli, self.number_of(backup.redo));
        WalName::Backup { segment, offset: u32::try_from(backup.redo % self.size.bytes()).unwrap() }
    }

    /// Returns the contents of a timeline's files.
    fn content(&self, tli: Tli) -> Content {
        let line = &self.lines[&tli];
        Content(line.before.iter().copied().chain([(tli, line.end)]).collect())
    }

    /// Returns what a server can find in an archive with these files.
    pub(crate) fn archive(&self, files: &Files) -> Archive {
        let mut archive = Archive { segment_bytes: self.size.bytes(), ..Archive::default() };
        for name in files.keys() {
            match name {
                WalName::Segment(segment) => {
                    let number = segment.number(self.size).unwrap();
                    archive.segments.insert((segment.timeline().get(), number));
                }
                WalName::History(of) => {
                    archive.histories.insert(of.get(), self.lines[&of.get()].history.clone());
                }
                WalName::Partial(_) | WalName::Backup { .. } => {}
            }
        }
        archive.contents = self.lines.keys().map(|tli| (*tli, self.content(*tli))).collect();
        archive
    }

    fn put(&mut self, name: WalName) {
        self.files.entry(name).or_insert(self.now);
        self.first_archived.entry(name).or_insert(self.now);
    }

    /// Archives a file of a server, unless its archiving has stopped.
    fn send(&mut self, tli: Tli, name: WalName) {
        match &mut self.lines.get_mut(&tli).unwrap().stalled {
            Some(waiting) => waiting.push(name),
            None => self.put(name),
        }
    }

    fn write(&mut self, tli: Tli, bytes: u64) {
        let line = self.lines.get_mut(&tli).unwrap();
        line.end += bytes;
        let finished = line.unfinished..line.end / self.size.bytes();
        line.unfinished = finished.end;
        for number in finished {
            self.send(tli, WalName::Segment(self.segment(tli, number)));
        }
    }

    fn switch(&mut self, tli: Tli) {
        let beyond = self.lines[&tli].end % self.size.bytes();
        if beyond > 0 {
            self.write(tli, self.size.bytes() - beyond);
        }
    }

    fn alive(&self) -> Vec<Tli> {
        self.lines.iter().filter(|(_, line)| line.alive).map(|(tli, _)| *tli).collect()
    }

    fn kill(&mut self, tli: Tli) {
        let line = self.lines.get_mut(&tli).unwrap();
        line.alive = false;
        line.stalled = None;
        for backup in &mut self.backups {
            if backup.on == Some(tli) && backup.ended.is_none() && !backup.is.from_standby {
                backup.on = None;
            }
        }
    }

    /// Creates a timeline that begins at a position on the path of another one, according to that one's archived
    /// history file.
    fn branch(
        &mut self,
        parent: Tli,
        at: Position,
        history: Vec<(Tli, Position)>,
        partial_of: Option<Tli>,
    ) -> Tli {
        let tli = self.lines.keys().max().unwrap() + 1;
        let mut before = Vec::new();
        for (writer, end) in self.content(parent).0 {
            before.push((writer, end.min(at)));
            if end >= at {
                break;
            }
        }
        let line = Line {
            history: history.into_iter().chain([(parent, at)]).collect(),
            before,
            begin: at,
            end: at,
            alive: true,
            stalled: None,
            unfinished: self.number_of(at),
        };
        self.lines.insert(tli, line);
        self.now += MINUTE;
        self.put(WalName::History(timeline(tli)));
        if let Some(of) = partial_of.filter(|_| !at.is_multiple_of(self.size.bytes())) {
            self.put(WalName::Partial(self.segment(of, self.number_of(at))));
        }
        tli
    }

    /// Performs an event; returns `false` if it has no object.
    pub(crate) fn happen(&mut self, event: &Event) -> bool {
        // Backups may end at the same time.
        if !matches!(event, Event::EndBackup { .. }) {
            self.now += MINUTE;
        }
        self.try_to(event).is_some()
    }

    fn try_to(&mut self, event: &Event) -> Option<()> {
        let eighth = self.eighth();
        match event {
            Event::Write { on, eighths } => {
                let on = pick(*on, self.alive())?;
                for _ in 0..*eighths {
                    self.now += MINUTE;
                    self.write(on, eighth);
                }
            }
            Event::Switch { on } => self.switch(pick(*on, self.alive())?),
            Event::Promote { on, lag, place, parent, rescued } => {
                self.promote(pick(*on, self.alive())?, u64::from(*lag) * eighth, *place, *parent, *rescued);
            }
            Event::Return { backup, to, permille, drill } => self.go_back(*backup, *to, *permille, *drill)?,
            Event::Stop { on } => {
                let alive = self.alive();
                self.kill(pick(*on, alive.clone()).filter(|_| alive.len() > 1)?);
            }
            Event::StartBackup { on, standby_since, checkpoint } => {
                self.start_backup(pick(*on, self.alive())?, *standby_since, u64::from(*checkpoint))?;
            }
            Event::EndBackup { which, found } => self.end_backup(*which, *found)?,
            Event::Stall { on } => {
                let line = self.lines.get_mut(&pick(*on, self.alive())?)?;
                line.stalled.get_or_insert_default();
            }
            Event::CatchUp { on, lost } => {
                let stalled = self.lines.iter().filter(|(_, line)| line.stalled.is_some());
                let tli = pick(*on, stalled.map(|(tli, _)| *tli))?;
                let waiting = self.lines.get_mut(&tli)?.stalled.take()?;
                for name in waiting.into_iter().skip(usize::from(*lost)) {
                    self.put(name);
                }
            }
            Event::LoseSegments { from, number } => {
                let segments: Vec<WalName> = self.segments().collect();
                let first = pick(*from, 0..segments.len())?;
                for name in segments.iter().skip(first).take(usize::from(*number)) {
                    self.files.remove(name);
                }
            }
            Event::LoseSegmentOfBackup { which, part } => {
                let backup = pick(*which, self.ended())?;
                let needed = self.number_of(backup.redo)..=self.number_of(backup.stop - 1);
                let archive = self.archive(&self.files);
                let number = pick(*part, needed)?;
                let name = WalName::Segment(self.segment(archive.home(backup.stop_tli, number), number));
                self.files.remove(&name)?;
            }
            Event::LoseHistory { which } => {
                let is_history = |name: &WalName| matches!(name, WalName::History(_));
                let name = pick(*which, self.files.keys().copied().filter(is_history))?;
                self.files.remove(&name);
            }
            Event::LoseBackupFile { which } => {
                let is_backup = |name: &WalName| matches!(name, WalName::Backup { .. });
                let name = pick(*which, self.files.keys().copied().filter(is_backup))?;
                self.files.remove(&name);
            }
            Event::Copy => self.files.values_mut().for_each(|since| *since = self.now),
            Event::Disorder { one, other } => {
                let names = [pick(*one, self.segments())?, pick(*other, self.segments())?];
                let [first, second] = names.map(|name| self.files[&name]);
                self.files.insert(names[0], second);
                self.files.insert(names[1], first);
            }
            Event::Wait { hours } => self.now += SignedDuration::from_hours(i64::from(*hours)),
            Event::Prune(_) => {}
        }
        Some(())
    }

    fn segments(&self) -> impl Iterator<Item = WalName> {
        self.files.keys().copied().filter(|name| matches!(name, WalName::Segment(_)))
    }

    fn ended(&self) -> Vec<BaseBackup> {
        self.backups.iter().filter(|backup| backup.ended.is_some()).map(|backup| backup.is).collect()
    }

    fn promote(&mut self, tli: Tli, lag: u64, place: ForkPlace, parent: ParentSegment, rescued: bool) {
        let eighth = self.eighth();
        if self.lines[&tli].end == self.lines[&tli].begin {
            self.write(tli, eighth);
        }
        match place {
            ForkPlace::AtABoundary => self.switch(tli),
            ForkPlace::AsItComes | ForkPlace::InTheFirstSegment => {}
        }
        let Line { begin, end, .. } = self.lines[&tli];
        let at = match place {
            ForkPlace::InTheFirstSegment => begin + eighth,
            ForkPlace::AtABoundary => end,
            ForkPlace::AsItComes => end.saturating_sub(lag).max(begin + eighth),
        };
        let waiting = self.lines.get_mut(&tli).unwrap().stalled.take().unwrap_or_default();
        if rescued {
            for name in waiting {
                self.put(name);
            }
        }
        let history = self.lines[&tli].history.clone();
        let child = self.branch(tli, at, history, (parent == ParentSegment::Partial).then_some(tli));
        if parent == ParentSegment::Full && at == end && at % self.size.bytes() > 0 {
            self.put(WalName::Segment(self.segment(tli, self.number_of(at))));
        }
        // A backup that runs on a standby continues along the new timeline.
        for backup in &mut self.backups {
            if backup.on == Some(tli) && backup.is.from_standby && backup.ended.is_none() {
                backup.on = (backup.from <= at).then_some(child);
            }
        }
        self.kill(tli);
    }

    fn go_back(&mut self, backup: Index, to: Index, permille: u16, drill: bool) -> Option<()> {
        let archive = self.archive(&self.files);
        let backup = pick(backup, self.ended())?;
        let targets = self.lines.keys().map(|target| (*target, archive.recover(&backup, *target)));
        let (target, outcome) = pick(to, targets.filter(|(_, outcome)| outcome.consistent))?;
        let far = (outcome.reached - backup.stop) / self.eighth();
        let at = backup.stop + far * u64::from(permille) / 1000 * self.eighth();
        let history = archive.histories.get(&target).cloned().unwrap_or_default();
        let partial_of = archive.home(target, self.number_of(at));
        let alive = self.alive();
        if !drill {
            for tli in &alive {
                self.kill(*tli);
            }
        } else if alive.len() > 2 {
            self.kill(*alive.last()?);
        }
        self.branch(target, at, history, Some(partial_of));
        Some(())
    }

    fn start_backup(&mut self, tli: Tli, standby_since: Option<u8>, checkpoint: u64) -> Option<()> {
        let eighth = self.eighth();
        self.write(tli, eighth);
        let Line { end, .. } = self.lines[&tli];
        let oldest = self.lines[&1].begin;
        let is = match standby_since {
            None => {
                self.write(tli, (1 + checkpoint) * eighth);
                let checkpoint = end + checkpoint * eighth;
                BaseBackup { tli, redo: end, checkpoint, stop: 0, stop_tli: tli, from_standby: false }
            }
            Some(since) => {
                let redo = end.saturating_sub((1 + u64::from(since)) * eighth).max(oldest);
                let content = self.content(tli);
                let (writer, upto) = *content.0.iter().find(|(_, upto)| redo < *upto)?;
                // A shutdown's checkpoint record is at its redo position.
                let record = redo + checkpoint * eighth;
                let checkpoint = if record < upto.min(end) { record } else { redo };
                BaseBackup { tli: writer, redo, checkpoint, stop: 0, stop_tli: tli, from_standby: true }
            }
        };
        let backup = Backup { is, began: self.now, ended: None, on: Some(tli), from: end, found: false };
        self.backups.push(backup);
        Some(())
    }

    /// Returns the end of a timeline's WAL, with the writer of its last part.
    pub(crate) fn writer_before_end(&self, tli: Tli) -> (Tli, Position) {
        let end = self.lines[&tli].end;
        let writer =
            self.content(tli).0.iter().find(|(_, upto)| end - 1 < *upto).map_or(tli, |(writer, _)| *writer);
        (writer, end)
    }

    fn end_backup(&mut self, which: Index, found: bool) -> Option<()> {
        let runs = |backup: &Backup| {
            let is_alive = |on: &Tli| backup.is.from_standby || self.lines[on].alive;
            backup.ended.is_none() && backup.on.is_some_and(|on| is_alive(&on))
        };
        let running = (0..self.backups.len()).filter(|index| runs(&self.backups[*index]));
        let index = pick(which, running)?;
        let on = self.backups[index].on?;
        let is_primary = !self.backups[index].is.from_standby;
        if is_primary {
            self.write(on, self.eighth());
        }
        let (stop_tli, stop) = self.writer_before_end(on);
        // Two that start in one segment and end at the same position need the same WAL, and count as one.
        let start = self.number_of(self.backups[index].is.redo);
        let is_same = |other: &BaseBackup| other.stop == stop && self.number_of(other.redo) == start;
        let is_new = !self.ended().iter().any(is_same);
        let backup = &mut self.backups[index];
        (is_new && stop > backup.is.checkpoint).then_some(())?;
        backup.is = BaseBackup { stop, stop_tli, ..backup.is };
        backup.on = None;
        backup.ended = Some(self.now);
        backup.found = found || !is_primary;
        let is = backup.is;
        if is_primary {
            self.switch(on);
            self.send(on, self.backup_file(&is));
        }
        Some(())
    }

    /// Returns the text of a timeline's history file.
    pub(crate) fn history_text(&self, tli: Tli) -> String {
        let line = |(ancestor, at): &(Tli, Position)| {
            format!("{ancestor}\t{}\tno recovery target specified", Lsn(*at))
        };
        let lines: Vec<String> = self.lines[&tli].history.iter().map(line).collect();
        lines.join("\n")
    }
}

/// Returns the timelines known to the archive.
pub(crate) fn known_timelines(files: &Files) -> BTreeSet<Tli> {
    let of = |name: &WalName| match name {
        WalName::Backup { .. } => None,
        name => Some(name.timeline().get()),
    };
    files.keys().filter_map(of).collect()
}
