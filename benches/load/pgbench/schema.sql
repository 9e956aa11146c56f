-- What the scripts beside this one work on: ten values of 200 bytes for each agent.
CREATE TABLE bench (agent_id text NOT NULL, key text NOT NULL, value bytea NOT NULL, PRIMARY KEY (agent_id, key));
INSERT INTO bench
SELECT 'agt_' || lpad(agent::text, 22, '0'), 'KEY_' || key, decode(repeat('00', 200), 'hex')
FROM generate_series(1, :agents) AS agent, generate_series(0, 9) AS key;
VACUUM ANALYZE bench;
CHECKPOINT;
