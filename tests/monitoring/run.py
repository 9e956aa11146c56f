"""run.py BINARY [PICTURE]: a real run of the service under a real Prometheus that has our rules, with load, an overload, a
database that goes away, a key provider that goes away, and a value that was changed by hand. Then it is asked whether the
alerts have told of each, and whether every query of rules and dashboard has an answer (`queries.py`). With PICTURE it draws
the dashboard of that run. `check.sh` calls it, and says what it needs.
"""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import picture
import queries

HERE = pathlib.Path(__file__).parent
RULES = HERE.parent.parent / "helm/superserve-secrets/files/rules.yaml"
POSTGRES = "/usr/lib/postgresql/15/bin"
LIMIT = 60  # seconds that anything may take to happen

# What has to have been told, and what else may be, as seconds stand for minutes here and a debug build is slow
FIRED = ["SuperserveSecretsNotReady", "SuperserveSecretsErrorBudgetBurns", "SuperserveSecretsUnreadable",
         "SuperserveSecretsKeyProviderFails", "SuperserveSecretsCallersRefused"]
MAY_FIRE = ["SuperserveSecretsDown", "SuperserveSecretsSlow", "SuperserveSecretsDatabaseWaits", "SuperserveSecretsDatabaseConnectionsUsed",
            "SuperserveSecretsDatabaseConnectionsLost", "SuperserveSecretsOverloaded", "SuperserveSecretsAuditFails"]


def until(what, ask, limit=LIMIT):
    """Asks until there is an answer, and gives it."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.1)
    raise SystemExit(f"waited {limit} s in vain for {what}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Processes:
    """What this run has started, which ends with it."""

    def __init__(self, work):
        self.work, self.started = work, []

    def start(self, name, command, **options):
        log = open(self.work / f"{name}.log", "w")
        options = {"stdout": log, "stdin": subprocess.DEVNULL, **options}
        self.started.append(subprocess.Popen(command, stderr=log, **options))
        return self.started[-1]

    def end(self):
        for process in reversed(self.started):
            if process.stdin:
                process.stdin.close()
            elif process.poll() is None:
                process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


class Database:
    """A PostgreSQL of our own, kept by the tests' script."""

    def __init__(self, processes):
        self.script = processes.start("postgres", ["sh", HERE.parent / "it/harness/postgres.sh", POSTGRES],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = free_port()
        self.tell("password")
        self.go()

    def tell(self, line):
        self.script.stdin.write(f"{line}\n")
        self.script.stdin.flush()

    def asked(self, command, answer):
        self.tell(command)
        told = self.script.stdout.readline()
        if not told.startswith(answer):
            raise SystemExit(f"PostgreSQL: {command}: {told}")

    def go(self):
        self.asked(f"start {self.port}", "started")

    def stop(self):
        self.asked("stop", "stopped")


class Kms:
    """AWS KMS, as moto's server plays it."""

    def __init__(self, processes):
        self.port = free_port()
        self.process = processes.start("moto", [os.environ["SUPERSERVE_TEST_MOTO"], "--host", "127.0.0.1", "--port", str(self.port)])
        until("moto", lambda: answers(self.port))
        scope = "Credential=key/20260101/eu-central-1/kms/aws4_request"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        connection.request("POST", "/", "{}", {
            "x-amz-target": "TrentService.CreateKey", "content-type": "application/x-amz-json-1.1",
            "authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"})
        self.key = json.load(connection.getresponse())["KeyMetadata"]["Arn"]
        self.settings = {
            "SUPERSERVE_KEY_PROVIDER": "aws-kms", "SUPERSERVE_AWS_KMS_KEY": self.key,
            "SUPERSERVE_AWS_KMS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


class Server:
    """One replica, and who calls it."""

    def __init__(self, processes, binary, name, options=(), environment=None, certificate=None):
        self.name, self.binary, self.processes, self.certificate = name, binary, processes, certificate
        self.token = subprocess.run([binary, "tokens", "generate"], check=True, capture_output=True, text=True).stdout.strip()
        command = [binary, "serve", "--data-dir", processes.work / name, "--listen", "127.0.0.1:0", "--ops-listen",
                   "127.0.0.1:0", "--log-format", "json", "--rate-limit", "40", "--request-timeout", "2", *options]
        self.process = processes.start(name, command, env={
            **os.environ, **(environment or {}), "SUPERSERVE_BOOTSTRAP_TOKEN": self.token})
        self.address = self.told("listening")
        self.ops = self.told("ops listening")
        self.agents = [self.deployed(f"agent-{number}") for number in range(4)]
        self.apart = self.deployed("apart")  # which nobody writes to
        self.resolver = self.command("tokens", "create", "--name", "runner", "--scope",
                                     "secrets:resolve,secrets:list,agents:read").strip()

    def told(self, message):
        def look():
            for line in (self.processes.work / f"{self.name}.log").read_text().splitlines():
                if line.startswith("{") and json.loads(line)["message"] == message:
                    return json.loads(line)["address"]
            if self.process.poll() is not None:
                raise SystemExit((self.processes.work / f"{self.name}.log").read_text())
            return None
        return until(f"{self.name} to be {message}", look)

    def connection(self):
        if not self.certificate:
            return http.client.HTTPConnection(self.address, timeout=LIMIT)
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection(self.address, timeout=LIMIT, context=context)

    def call(self, connection, method, path, body=None, token=None):
        headers = {"authorization": f"Bearer {token or self.token}", "content-type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def deployed(self, name):
        connection = self.connection()
        body = self.call(connection, "POST", "/v1/agents", {"name": name, "required_secrets": ["API_KEY"]})[1]
        agent = json.loads(body)["id"]
        self.call(connection, "PATCH", f"/v1/agents/{agent}/secrets", {"secrets": {"API_KEY": "not-a-real-one"}})
        return agent

    def environment(self, token):
        scheme = "https" if self.certificate else "http"
        trust = {"SUPERSERVE_CA_CERT": str(self.certificate)} if self.certificate else {}
        return {**os.environ, **trust, "SUPERSERVE_API_URL": f"{scheme}://{self.address}", "SUPERSERVE_TOKEN": token}

    def command(self, *words):
        return subprocess.run([self.binary, *words], env=self.environment(self.token), check=True, capture_output=True, text=True).stdout

    def metrics(self):
        connection = http.client.HTTPConnection(self.ops, timeout=LIMIT)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


class Load:
    """Calls until it is told to stop. What they are answered is what is measured, and of no matter here."""

    def __init__(self):
        self.stop, self.threads = threading.Event(), []

    def add(self, server, pause, call):
        def repeat():
            connection, turn = server.connection(), 0
            while not self.stop.is_set():
                try:
                    call(connection, turn)
                except (OSError, http.client.HTTPException):
                    connection.close()
                turn += 1
                self.stop.wait(pause)
        self.threads.append(threading.Thread(target=repeat, daemon=True))
        self.threads[-1].start()

    def steady(self, server):
        agent = lambda turn: server.agents[turn % len(server.agents)]
        secrets = lambda turn: f"/v1/agents/{agent(turn)}/secrets"
        self.add(server, 0.06, lambda connection, turn: server.call(connection, "GET", secrets(turn)))
        self.add(server, 0.12, lambda connection, turn: server.call(
            connection, "PATCH", secrets(turn), {"secrets": {"API_KEY": f"value-{turn}"}}))
        self.add(server, 0.4, lambda connection, turn: server.call(connection, "GET", "/v1/agents/agt_nobody/secrets"))
        self.add(server, 0.7, lambda connection, turn: server.call(connection, "GET", "/v1/agents", token="none"))
        self.add(server, 1, lambda connection, turn: server.call(connection, "POST", "/v1/agents", {"name": f"new-{turn}"}))
        self.add(server, 0.5, lambda connection, turn: subprocess.run(
            [server.binary, "secrets", "run", agent(turn), "--timeout", "1", "--", "true"],
            env=server.environment(server.resolver), capture_output=True))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


class Prometheus:
    """It scrapes each second, and minutes of the rules' patience are a second here."""

    def __init__(self, processes, servers):
        work = processes.work
        (work / "rules.yaml").write_text(re.sub(r"for: \d+[mh]", "for: 4s", RULES.read_text()))
        targets = [{"targets": [server.ops], "labels": {"instance": server.name}} for server in servers]
        (work / "prometheus.yaml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "superserve", "static_configs": targets}]}))
        self.port, self.began, self.ended = free_port(), time.time(), None
        processes.start("prometheus", ["prometheus", f"--config.file={work}/prometheus.yaml", f"--storage.tsdb.path={work}/tsdb",
                                       f"--web.listen-address=127.0.0.1:{self.port}"])
        until("Prometheus", self.is_ready)
        until("all replicas to be scraped", lambda: len(self.instant("superserve_up")) == len(servers))

    def is_ready(self):
        if not answers(self.port):
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200

    def ask(self, path, **parameters):
        """What its API answers; an answer that is none ends the run."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}")
        answer = json.load(connection.getresponse())
        if answer["status"] != "success":
            raise SystemExit(f"Prometheus: {parameters}: {answer['error']}")
        return answer["data"]

    def instant(self, query):
        return self.ask("query", query=query)["result"]

    def range(self, query, step=1):
        """The series of the whole run."""
        return self.ask("query_range", query=query, start=self.began, end=self.ended or time.time(), step=step)["result"]

    def fires(self, alert, state="firing"):
        return until(f"{alert} to be {state}", lambda: self.instant(f'ALERTS{{alertname="{alert}",alertstate="{state}"}}'))


def certificate(work):
    """One for 127.0.0.1, which signs itself."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "extendedKeyUsage=serverAuth",
                    "-addext", "basicConstraints=critical,CA:FALSE",
                    "-keyout", work / "key.pem", "-out", work / "cert.pem"], check=True, capture_output=True)
    return work / "cert.pem"


def read_what_was_changed(server):
    """Changed past the server, as a hand in the database would."""
    with sqlite3.connect(server.processes.work / server.name / "secrets.db", timeout=LIMIT) as database:
        database.execute("UPDATE secrets SET sealed = zeroblob(length(sealed)) WHERE agent_id = ?", [server.apart])
    return subprocess.run([server.binary, "secrets", "run", "apart", "--timeout", "1", "--", "true"],
                          env=server.environment(server.resolver), capture_output=True)


class Events:
    """What happens, and when."""

    def __init__(self):
        self.all = []

    def say(self, text):
        self.all.append((time.time(), text))
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(processes, binary, say):
    database, kms = Database(processes), Kms(processes)
    url = f"postgres://postgres:password@127.0.0.1:{database.port}/postgres"
    on_postgres = Server(processes, binary, "on-postgres", environment={"SUPERSERVE_DATABASE_URL": url, **kms.settings})
    cert = certificate(processes.work)
    tls = ["--tls-cert", cert, "--tls-key", processes.work / "key.pem"]
    on_sqlite = Server(processes, binary, "on-sqlite", tls, certificate=cert)
    servers, load = [on_postgres, on_sqlite], Load()
    prometheus = Prometheus(processes, servers)
    try:
        for server in servers:
            load.steady(server)
            processes.start(f"watch-{server.name}", [binary, "secrets", "run", "--watch", "apart", "--", "sleep", "600"],
                            env=server.environment(server.resolver))
        say("steady load")
        time.sleep(15)

        say("one token calls as fast as it can")
        overload = Load()
        for server in servers:
            token = server.command("tokens", "create", "--name", "hammer", "--scope", "agents:read").strip()
            for _ in range(4):
                overload.add(server, 0, lambda connection, turn, server=server, token=token: server.call(
                    connection, "GET", "/v1/agents?limit=1", token=token))
        time.sleep(12)
        overload.end()

        say("the database is stopped")
        database.stop()
        prometheus.fires("SuperserveSecretsNotReady", "pending")
        prometheus.fires("SuperserveSecretsNotReady")
        prometheus.fires("SuperserveSecretsErrorBudgetBurns")
        say("the database starts again")
        database.go()
        until("the alert to end", lambda: not prometheus.instant('ALERTS{alertname="SuperserveSecretsNotReady"}'))

        say("the key provider is stopped, and a value is changed by hand")
        kms.process.send_signal(signal.SIGKILL)
        if read_what_was_changed(on_sqlite).returncode == 0:
            raise SystemExit("a value that was changed by hand was handed out")
        prometheus.fires("SuperserveSecretsUnreadable")
        prometheus.fires("SuperserveSecretsKeyProviderFails")
        time.sleep(5)
    finally:
        load.end()
    prometheus.ended = time.time()
    return prometheus, [server.metrics() for server in servers]


def told(prometheus):
    """What the alerts have told of, each first pending where it has patience."""
    began = {}
    for series in prometheus.range("ALERTS"):
        labels = series["metric"]
        key = labels["alertname"], labels["alertstate"]
        began[key] = min(began.get(key, float("inf")), series["values"][0][0])
    firing = {name for name, state in began if state == "firing"}
    # What cannot be measured in this run is not told of either
    excused = {rule["name"] for group in prometheus.ask("rules")["groups"] for rule in group["rules"]
               if any(name in rule["query"] for name in queries.exceptions())}
    if missing := set(FIRED) - firing - excused:
        raise SystemExit(f"did not fire: {missing}")
    if unexpected := firing - set(FIRED) - set(MAY_FIRE):
        raise SystemExit(f"fired without a reason: {unexpected}")
    waited = began["SuperserveSecretsNotReady", "firing"] - began["SuperserveSecretsNotReady", "pending"]
    if not 3 <= waited <= 6:
        raise SystemExit(f"SuperserveSecretsNotReady was pending for {waited} s and not for 4")
    for alert in prometheus.ask("alerts")["alerts"]:
        if re.search(r"<error|no value|\{\{", alert["annotations"]["summary"]):
            raise SystemExit(f"a summary that cannot be filled in: {alert}")
    print(f"fired: {', '.join(sorted(firing))}")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    with tempfile.TemporaryDirectory() as folder:
        processes, events = Processes(pathlib.Path(folder)), Events()
        try:
            prometheus, metrics = run(processes, binary, events.say)
            told(prometheus)
            queries.check(prometheus, metrics)
            if len(sys.argv) > 2:
                pathlib.Path(sys.argv[2]).write_text(picture.draw(prometheus, queries.dashboard(), queries.filled, events.all))
        except BaseException:
            for log in sorted(pathlib.Path(folder).glob("*.log")):
                print(f"== {log.name}", *log.read_text().splitlines()[-15:], sep="\n", file=sys.stderr)
            raise
        finally:
            processes.end()


if __name__ == "__main__":
    main()
